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
        scores: (n, K) class scores, higher is better.
        labels: (n,) class indices.
        accuracy: top-1 accuracy, 0 to 1.
    """

    scores: NDArray[np.float64]
    labels: tuple[int, ...]
    accuracy: float


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
