"""Means of prompts' embeddings, and what slopes there say of every class."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.support.errors import UsageError

KEPT = 64
"""Points whose means are kept: all images begin at the same ones."""

CHUNK = 64
"""Prompts at a time that are copied to single precision."""


class Points:
    """The points among a set of prompts.

    Args:
        prompts: P prompts of K classes.
        cond: of the prompts.
    """

    def __init__(self, prompts: PromptSet, cond: Conditioning) -> None:
        self.prompts = prompts
        self._flat = embeddings(cond)
        self._cond = cond
        self._kept: OrderedDict[tuple[int, ...], dict[str, Tensor]] = OrderedDict()
        device = next(iter(cond.values())).device
        self._class_of = torch.tensor(prompts.class_of, device=device)
        # each prompt's part in the mean of its class
        share = 1 / np.bincount(prompts.class_of)[list(prompts.class_of)]
        self._share = torch.tensor(share, dtype=torch.float32, device=device)

    def at(self, members: Sequence[tuple[int, ...]]) -> Conditioning:
        """M rows: the mean over each group of classes, every class counting alike."""
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
        found = errors[:, None].repeat(1, self.prompts.n_classes)
        for name, gradient in gradients.items():
            along = [
                self._along(name, slope, point)
                for slope, point in zip(gradient.flatten(1), points[name].flatten(1), strict=True)
            ]
            found.index_add_(1, self._class_of, torch.stack(along) * self._share)
        return found

    def _along(self, name: str, slope: Tensor, point: Tensor) -> Tensor:
        """(P,) ⟨slope, c_p − point⟩ in float32, of one slope and one point (D,).

        What all prompts share cancels before it is multiplied. Looks are seen to one at a time: a
        product of matrices would make an image's last bits depend on its company.
        """
        parts = self._flat[name].split(CHUNK)  # bounds what is copied to single precision
        return torch.cat([(part - point.float()) @ slope for part in parts])

    @torch.inference_mode()
    def _mean(self, group: tuple[int, ...]) -> dict[str, Tensor]:
        """Name -> mean over the classes of a group; of masks, what any of them lets through."""
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        rows = torch.from_numpy(np.flatnonzero(np.isin(self.prompts.class_of, group)))
        rows = rows.to(self._share.device)
        made = {}
        for name, tensor in self._cond.items():
            if name in self._flat:
                # in single precision whatever the model's: a sum of many is no place to round
                mean = sum(
                    (self._share[part] / len(group)) @ self._flat[name][part].float()
                    for part in rows.split(CHUNK)
                )
                made[name] = torch.as_tensor(mean, dtype=tensor.dtype).reshape(tensor.shape[1:])
            else:
                made[name] = tensor[rows].amax(dim=0)
        self._kept[group] = made
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return made


def embeddings(cond: Conditioning) -> dict[str, Tensor]:
    """Name -> (P, D) of the tensors that prompts can be mixed by; views where encoders allow it.

    Raises:
        UsageError: where there is none, as class ids have none.
    """
    found = {k: v.reshape(len(v), -1) for k, v in cond.items() if v.is_floating_point()}
    if not found:
        raise UsageError(
            "a screen works on texts, and the model's prompts are class ids",
            todo="choose --search racing",
        )
    return found


def class_embeddings(prompts: PromptSet, cond: Conditioning, columns: int) -> Iterator[Tensor]:
    """(K, D) float32, each class's embedding, the mean over its prompts; some columns at a time.

    Args:
        prompts: P prompts of K classes.
        cond: of the prompts.
        columns: of D, at most, that are yielded at a time.

    Raises:
        UsageError: see `embeddings`.
    """
    for flat in embeddings(cond).values():
        of_class = torch.tensor(prompts.class_of, device=flat.device)
        counts = torch.tensor(np.bincount(prompts.class_of), device=flat.device)
        for part in flat.split(columns, dim=1):
            total = torch.zeros(prompts.n_classes, part.shape[1], device=flat.device)
            yield total.index_add_(0, of_class, part.float()) / counts[:, None]
