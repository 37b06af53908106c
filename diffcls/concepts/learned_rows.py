"""Learned rows of the tables of token embeddings: all that textual inversion trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffcls.models.concept_files import KEYS
from diffcls.models.concepts import add_vectors, check_family, check_new, token_ids, tokenizer_of
from diffcls.models.families.base import PipelineDenoiser
from diffcls.support.errors import UsageError


class LearnedRows(nn.Module):
    """The vectors of a new token, a parameter per text encoder; all else stays as it is.

    The token is added to the pipeline's tokenizers. While the rows are `attached`, they take the
    place of the output of the embedding table at the new ids, so that gradients reach the V vectors
    and no table is copied. A parameter is in units of the root mean square of its table, so that
    one learning rate fits all encoders.

    Args:
        denoiser: of a family in `diffcls.models.concept_files.KEYS`; its pipeline gets the token.
        token: the new token.
        start: text encoder -> initial vectors (V, D).

    Raises:
        UsageError, ModelError: see `diffcls.models.concepts.add_vectors`.
    """

    def __init__(self, denoiser: PipelineDenoiser, token: str, start: Mapping[str, Tensor]) -> None:
        super().__init__()
        pipeline = denoiser.pipeline
        self._encoders = {part: getattr(pipeline, part) for part in start}
        tables = {part: table_of(encoder) for part, encoder in self._encoders.items()}
        self._scales = {part: float(table.square().mean().sqrt()) for part, table in tables.items()}
        add_vectors(pipeline, token, start)
        self._ids = {part: token_ids(pipeline, token, part, len(v)) for part, v in start.items()}
        for encoder in self._encoders.values():
            encoder.requires_grad_(False)
        self.rows = nn.ParameterDict(
            {part: nn.Parameter(v.float() / self._scales[part]) for part, v in start.items()}
        )

    def vectors(self) -> dict[str, Tensor]:
        """Text encoder -> (V, D) float32, on the CPU."""
        return {
            part: row.detach().float().cpu() * self._scales[part] for part, row in self.rows.items()
        }

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Context in which the text encoders read the rows, with gradients."""
        with ExitStack() as stack:
            for part, encoder in self._encoders.items():
                table = encoder.get_input_embeddings()
                stack.enter_context(
                    _removed(table.register_forward_hook(partial(self._replace, part)))
                )
            yield

    def _replace(self, part: str, module: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """(B, L, D) embeddings of ids (B, L), with the learned rows at their ids."""
        ids = inputs[0]
        rows = self.rows[part].to(out.device) * self._scales[part]
        for token_id, row in zip(self._ids[part], rows.to(out.dtype), strict=True):
            out = torch.where((ids == token_id).unsqueeze(-1), row, out)
        return out


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def table_of(encoder: Any) -> Tensor:
    """(tokens, D) embedding table of a text encoder, float32."""
    table: Tensor = encoder.get_input_embeddings().weight.detach().float()
    return table


def initial_vectors(
    denoiser: PipelineDenoiser, token: str, init: str | None, count: int
) -> dict[str, Tensor]:
    """Initial vectors of a token in each text encoder: text encoder -> (V, D).

    The embeddings of the tokens of `init`, in order, and their mean for the remaining vectors; a
    single vector is their mean. Without `init` all are the mean of the table.

    Args:
        denoiser: the model.
        token: the new token, which the model must not have yet.
        init: one or more words.
        count: V.

    Raises:
        UsageError: for a token that the model has, or words without a token.
        ModelError: for a family that cannot have new words.
    """
    pipeline = denoiser.pipeline
    parts = KEYS[check_family(pipeline)]
    check_new(pipeline, token, parts)
    start = {}
    for part in parts:
        table = table_of(getattr(pipeline, part)).cpu()
        ids: Sequence[int] = range(len(table))
        if init is not None:
            ids = getattr(pipeline, tokenizer_of(part))(init, add_special_tokens=False).input_ids
            if not ids:
                raise UsageError("--init has no token in this model", given=init)
        known = table[list(ids)]  # (tokens of the words, D)
        mean = known.mean(dim=0, keepdim=True)
        if init is None or count == 1:
            start[part] = mean.repeat(count, 1)
        else:
            rest = mean.repeat(max(0, count - len(known)), 1)
            start[part] = torch.cat([known[:count], rest])
    return start
