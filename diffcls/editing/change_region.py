"""Regions of changes: where two prompts disagree about an image, and where two images differ."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SHARE_OF_LARGEST = 0.5
"""Disagreement, relative to the largest one, from which on a position changes."""
MARGIN = 1
"""Positions beside such a one that change, too: a new object may be larger."""

GREY_VALUES = 10
"""Difference of a pixel, of 255, from which on it counts as changed."""


def changed_pixels(image: Tensor, original: Tensor) -> Tensor:
    """(H, W) whether any channel of images (3, H, W) in [−1, 1] differs by more than 10 of 255."""
    changed: Tensor = (image - original).abs().amax(dim=0) * 127.5 > GREY_VALUES
    return changed


class ChangeRegion:
    """Positions at which the estimates of two prompts differ, summed over the steps of an edit.

    The difference of two prompts' estimates tells an object from its surroundings (Couairon et al.
    2023, section 3.2, who take it at one level of noise).
    """

    def __init__(self) -> None:
        self._total: Tensor | None = None

    def add(self, source: Tensor, target: Tensor) -> None:
        """Add the difference of two estimates of x0, (1, C, h, w) each."""
        gap = (target - source).abs().mean(dim=1, keepdim=True)
        self._total = gap if self._total is None else self._total + gap

    def mask(self) -> Tensor:
        """(1, 1, h, w) whether a position may change; nowhere without any difference."""
        if self._total is None:
            raise ValueError("no estimates were added")
        near = F.max_pool2d(self._total, 2 * MARGIN + 1, 1, MARGIN)
        region: Tensor = near > SHARE_OF_LARGEST * self._total.max()
        return region
