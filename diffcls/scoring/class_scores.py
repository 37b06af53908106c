"""Class scores of one image, the result of every classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.support.redaction import redacted


@dataclass(frozen=True)
class ClassScores:
    """Scores and ranking of one image.

    Args:
        image_id: id of the image.
        scores: (K,) by class index, higher is better; empty if the image failed. For an image with
            candidates of its own, K is their number and all indices refer to them.
        ranking: (K,) class indices, best first; empty if the image failed.
        evaluations: forward passes of a denoiser spent on this image (a backward pass counts as
            two).
        seconds: its share of the time spent.
        error: description of a failure, or None.
        errors: (K, N) error table, NaN where not evaluated; None unless requested.
        raced: (S,) shortlist of class indices from a screen; None without a screen.
        background: score of the background prompt, on all draws of the best candidate; None
            without a background prompt.
    """

    image_id: str
    scores: NDArray[np.float64]
    ranking: NDArray[np.int64]
    evaluations: int
    seconds: float
    error: str | None = None
    errors: NDArray[np.float32] | None = None
    raced: NDArray[np.int64] | None = None
    background: float | None = None

    @classmethod
    def failed(cls, image_id: str, error: str, seconds: float = 0.0) -> ClassScores:
        """The result for an image that could not be scored; secrets in the error are left out."""
        empty = np.empty(0)
        return cls(image_id, empty, empty.astype(np.int64), 0, seconds, redacted(error))
