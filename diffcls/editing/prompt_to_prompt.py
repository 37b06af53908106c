"""Prompt-to-Prompt: an image is edited by its prompt, with the attention of the original.

Source and target are denoised side by side. While a share of the steps lasts, the target's
cross-attention is that of the source, carried from word to word; while another lasts, so is its
self-attention (Hertz et al. 2023, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcls.editing.word_alignment import Alignment

MAX_LAYOUT_POSITIONS = 32 * 32
"""Self-attention among more positions is left as it is, as in the authors' code."""


@dataclass
class PromptToPrompt:
    """Change of the attention of a batch whose last two rows are source and target.

    Args:
        alignment: of the two prompts.
        keep_words, keep_layout: shares of the steps, 0 to 1.
        weights: (S,) factors of the attention to each token of the target.
        progress: share of the steps that are done; it is set before each step.

    Attributes:
        maps: N positions -> sum of the cross-attention maps (2, N, S) of source and target over
            layers and steps, each the mean over heads, and the number of summands.
    """

    alignment: Alignment
    keep_words: float
    keep_layout: float
    weights: Tensor
    progress: float = 0.0
    maps: dict[int, tuple[Tensor, int]] = field(default_factory=dict)

    def __call__(self, probabilities: Tensor, is_cross: bool) -> Tensor:
        """See `diffcls.editing.attention.Change`."""
        source, target = probabilities[-2], probabilities[-1]
        if is_cross:
            target = self._of_words(source, target)
            self._note(torch.stack([source, target]))
        elif self.progress < self.keep_layout and source.shape[-1] <= MAX_LAYOUT_POSITIONS:
            target = source
        return torch.cat([probabilities[:-1], target[None]])

    def _of_words(self, source: Tensor, target: Tensor) -> Tensor:
        """(heads, N, S) cross-attention of the target."""
        if self.progress < self.keep_words:
            # (heads, N, S) @ (S, S) -> (heads, N, S)
            carried = source @ self.alignment.carry.to(source)
            target = torch.where(self.alignment.is_new.to(source.device), target, carried)
        return target * self.weights.to(target)

    def _note(self, both: Tensor) -> None:
        """Add the maps (2, heads, N, S) of a layer, the mean over its heads."""
        mean = both.float().mean(dim=1)
        total, count = self.maps.get(mean.shape[1], (torch.zeros_like(mean), 0))
        self.maps[mean.shape[1]] = total + mean, count + 1

    def mean_maps(self, shape: tuple[int, int]) -> Tensor:
        """(2, S, h, w) mean cross-attention of source and target to each token.

        Args:
            shape: (h, w) of the latents; the maps of all layers, which have its proportions, are
                resized to it.
        """
        whole = torch.zeros(2, len(self.weights), *shape)
        for positions, (total, _) in self.maps.items():
            height = round((positions * shape[0] / shape[1]) ** 0.5)
            # (2, N, S) -> (2, S, height, width)
            maps = total.transpose(1, 2).reshape(2, -1, height, positions // height).cpu()
            whole += F.interpolate(maps, shape, mode="bilinear", align_corners=False)
        return whole / max(sum(count for _, count in self.maps.values()), 1)
