"""Means of prompts' embeddings, and what slopes there say of every class."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from diffcls.denoiser import Conditioning
from diffcls.prompts import PromptSet

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
        # (P, D) views where floating tensors lie in one piece, as encoders leave them
        self._flat = {k: v.reshape(len(v), -1) for k, v in cond.items() if v.is_floating_point()}
        self._cond = cond
        self._kept: OrderedDict[tuple[int, ...], dict[str, Tensor]] = OrderedDict()
        rows = torch.tensor(prompts.class_of)
        counts = torch.bincount(rows, minlength=prompts.n_classes)
        device = next(iter(cond.values())).device
        self._class_of = rows.to(device)
        # each prompt's part in the mean of its class
        self._share = (1.0 / counts[rows]).to(device)

    def at(self, members: Sequence[tuple[int, ...]]) -> Conditioning:
        """M rows: the mean over each group of classes, every class counting alike."""
        means = [self._mean(group) for group in members]
        return Conditioning({name: torch.stack([m[name] for m in means]) for name in means[0]})

    @torch.inference_mode()
    def first_order(self, errors: Tensor, gradients: Conditioning, points: Conditioning) -> Tensor:
        """(M, K) e(c̄) + ⟨∂e/∂c, c_k − c̄⟩ of every class.

        Args:
            errors: (M,) at the points.
            gradients: ∂e/∂c there, M rows.
            points: the M points c̄.
        """
        found = errors[:, None].repeat(1, self.prompts.n_classes)
        for name, gradient in gradients.items():
            slope = gradient.flatten(1)  # (M, D)
            along = torch.stack([self._along(name, one) for one in slope])  # (M, P)
            along = along - (slope * points[name].flatten(1).float()).sum(dim=1, keepdim=True)
            found.index_add_(1, self._class_of, along * self._share)
        return found

    def _along(self, name: str, slope: Tensor) -> Tensor:
        """(P,) ⟨slope, c_p⟩ in float32; one slope (D,) at a time.

        A product of matrices would make an image's last bits depend on its company.
        """
        parts = self._flat[name].split(CHUNK)  # bounds what is copied to single precision
        return torch.cat([part.float() @ slope for part in parts])

    @torch.inference_mode()
    def _mean(self, group: tuple[int, ...]) -> dict[str, Tensor]:
        """Name -> mean over the classes of a group; of masks, what any of them lets through."""
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        inside = torch.zeros(self.prompts.n_classes)
        inside[list(group)] = 1.0 / len(group)
        weights = inside.to(self._share.device)[self._class_of] * self._share  # (P,)
        made = {}
        for name, tensor in self._cond.items():
            if name in self._flat:
                mean = weights.to(tensor.dtype) @ self._flat[name]
                made[name] = mean.reshape(tensor.shape[1:])
            else:
                made[name] = tensor[weights > 0].amax(dim=0)
        self._kept[group] = made
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return made
