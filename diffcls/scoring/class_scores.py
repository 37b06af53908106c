"""The scores of one image: what every classifier returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassScores:
    """The answer for one image.

    Args:
        image_id: whose.
        scores: (K,) by class index, higher is better; empty where the image failed. Of an image
            with candidates of its own K is their number, and all indices are among them.
        ranking: (K,) class indices, best first; empty where the image failed.
        evaluations: forward passes of a denoiser spent on this image (a backward pass counts as
            two).
        seconds: its share of the time spent.
        error: what went wrong, or None.
        errors: (K, N) error table where one was asked for, NaN where not evaluated.
        raced: (S,) class indices that a screen left to its race; None without a screen.
    """

    image_id: str
    scores: NDArray[np.float64]
    ranking: NDArray[np.int64]
    evaluations: int
    seconds: float
    error: str | None = None
    errors: NDArray[np.float32] | None = None
    raced: NDArray[np.int64] | None = None

    @classmethod
    def failed(cls, image_id: str, error: str, seconds: float = 0.0) -> ClassScores:
        """The answer for an image that could not be scored."""
        none = np.empty(0)
        return cls(image_id, none, none.astype(np.int64), 0, seconds, error)
