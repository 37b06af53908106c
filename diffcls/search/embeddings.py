"""Mean prompt embeddings, and first-order errors of every class around them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.support.errors import UsageError

MAX_CACHED_POINTS = 64
"""Points whose means are cached: all images begin at the same ones."""

PROMPTS_PER_CHUNK = 64
"""Prompts copied to single precision at a time; bounds peak memory."""


class Points:
    """Points between the prompts: means of the embeddings of groups of classes.

    Args:
        prompts: P prompts of K classes.
        cond: encoding of the prompts, P rows.
    """

    def __init__(self, prompts: PromptSet, cond: Conditioning) -> None:
        self.prompts = prompts
        self._flat = embeddings(cond)
        self._cond = cond
        self._cache: OrderedDict[tuple[int, ...], dict[str, Tensor]] = OrderedDict()
        device = next(iter(cond.values())).device
        self._class_of = torch.tensor(prompts.class_of, device=device)
        # weight of each prompt in the mean of its class
        share = 1 / np.bincount(prompts.class_of)[list(prompts.class_of)]
        self._share = torch.tensor(share, dtype=torch.float32, device=device)

    def at(self, members: Sequence[tuple[int, ...]]) -> Conditioning:
        """M rows: the mean over each group of classes, all classes weighted equally."""
        means = [self._mean(group) for group in members]
        return Conditioning({name: torch.stack([m[name] for m in means]) for name in means[0]})

    @torch.inference_mode()
    def first_order(self, errors: Tensor, gradients: Conditioning, points: Conditioning) -> Tensor:
        """(M, K) e(c̄) + ⟨∂e/∂c, c_k − c̄⟩ of every class, c_k the mean of its prompts.

        Args:
            errors: (M,) at the points.
            gradients: ∂e/∂c there, M rows, float32.
            points: the M points c̄.
        """
        expanded = errors[:, None].repeat(1, self.prompts.n_classes)
        for name, gradient in gradients.items():
            along = [
                self._along(name, slope, point)
                for slope, point in zip(gradient.flatten(1), points[name].flatten(1), strict=True)
            ]
            expanded.index_add_(1, self._class_of, torch.stack(along) * self._share)
        return expanded

    def _along(self, name: str, slope: Tensor, point: Tensor) -> Tensor:
        """(P,) ⟨slope, c_p − point⟩ in float32, of one slope and one point (D,).

        The part common to all prompts is subtracted before the product. Probes are processed one
        at a time: in a matrix product the last bits of a result would depend on the batch.
        """
        parts = self._flat[name].split(PROMPTS_PER_CHUNK)  # bounds the copy in single precision
        return torch.cat([(part - point.float()) @ slope for part in parts])

    @torch.inference_mode()
    def _mean(self, group: tuple[int, ...]) -> dict[str, Tensor]:
        """Name -> mean over the classes of a group; masks are combined by logical or."""
        if len(group) == 1 and len(rows := self.prompts.rows_of(group[0])) == 1:
            return {name: tensor[rows[0]] for name, tensor in self._cond.items()}
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        rows = torch.from_numpy(np.flatnonzero(np.isin(self.prompts.class_of, group)))
        rows = rows.to(self._share.device)
        means = {}
        for name, tensor in self._cond.items():
            if name in self._flat:
                # in single precision whatever the model's dtype: a long sum accumulates rounding
                mean = sum(
                    (self._share[part] / len(group)) @ self._flat[name][part].float()
                    for part in rows.split(PROMPTS_PER_CHUNK)
                )
                means[name] = torch.as_tensor(mean, dtype=tensor.dtype).reshape(tensor.shape[1:])
            else:
                means[name] = tensor[rows].amax(dim=0)
        self._cache[group] = means
        if len(self._cache) > MAX_CACHED_POINTS:
            self._cache.popitem(last=False)
        return means


def embeddings(cond: Conditioning) -> dict[str, Tensor]:
    """Name -> (P, D) of the floating-point tensors, which can be averaged; views where possible.

    Raises:
        UsageError: if there is none, as class ids have none.
    """
    flat = {k: v.reshape(len(v), -1) for k, v in cond.items() if v.is_floating_point()}
    if not flat:
        raise UsageError(
            "a screen needs text prompts, and the model is class-conditional",
            todo="choose --search racing",
        )
    return flat


def class_embeddings(prompts: PromptSet, cond: Conditioning, columns: int) -> Iterator[Tensor]:
    """(K, D) float32 class embeddings, each the mean over its prompts, in chunks of columns.

    Args:
        prompts: P prompts of K classes.
        cond: encoding of the prompts, P rows.
        columns: maximum columns of D per chunk.

    Raises:
        UsageError: see `embeddings`.
    """
    for flat in embeddings(cond).values():
        of_class = torch.tensor(prompts.class_of, device=flat.device)
        counts = torch.tensor(np.bincount(prompts.class_of), device=flat.device)
        for part in flat.split(columns, dim=1):
            total = torch.zeros(prompts.n_classes, part.shape[1], device=flat.device)
            yield total.index_add_(0, of_class, part.float()) / counts[:, None]
