"""Validation of a denoiser in training: the result, and the callback that training receives.

A training does not import a classifier; its caller passes a `Validate`, for instance
`diffcls.classifiers.validation.ZeroShotValidator`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.models.denoiser import Denoiser

CURVE_DRAWS, CURVE_IMAGES = 10, 100
"""Maximum draws per class and number of validation images at each point of a training curve."""


@dataclass(frozen=True)
class Validation:
    """Scores of a classifier on labelled images.

    Args:
        scores: (n, K) class scores, higher is better; (0, 0) if no image could be scored.
        labels: (n,) class indices.
        accuracy: top-1 accuracy over the n images, 0 to 1; NaN without any.
        asked: number of images requested: more than n after a time limit, or if images failed.
        failed: number of images that could not be scored.
        evaluations: forward passes of the network per image.
        seconds: time spent.
    """

    scores: NDArray[np.float64]
    labels: tuple[int, ...]
    accuracy: float
    asked: int = 0
    failed: int = 0
    evaluations: float = 0.0
    seconds: float = 0.0


Validate = Callable[[Denoiser, str], Validation]
"""(denoiser, split) -> its zero-shot classification of that split."""


@dataclass(frozen=True)
class Validators:
    """Validation callbacks of one training.

    Args:
        curve: cheap, for each point of the training curve.
        finished: thorough, for the finished model; its scores also fit the temperature.
    """

    curve: Validate
    finished: Validate
