"""Reliability of a run's probabilities, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffcls.metrics.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    posterior,
)
from diffcls.reports.page.results import RunResults
from diffcls.support.seeding import key
from diffcls.support.types import Float64, Int64

BINS = 15
MAX_FITTED_IMAGES = 2000
"""Images of a half that a temperature is fitted on."""


@dataclass(frozen=True)
class Bin:
    """Images whose largest probability lies in ((m − 1)/M, m/M].

    Args:
        n: number of images.
        confidence: mean of their largest probability.
        accuracy: fraction of correct ones.
    """

    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """Reliability diagram: the bins with images, the ECE (Guo et al. 2017, eq. 3), and the NLL."""

    bins: Sequence[Bin]
    ece: float
    nll: float


@dataclass(frozen=True)
class Calibration:
    """Reliability before and after temperature scaling.

    Args:
        before: of the run's own probabilities.
        after: of scaled ones; None where no temperature can be fitted.
        temperatures: of the two halves; each is fitted on one half and used on the other.
    """

    before: Reliability
    after: Reliability | None
    temperatures: Sequence[float]


def reliability(probabilities: Float64, labels: Int64, bins: int = BINS) -> Reliability:
    """The reliability diagram of probabilities (n, K)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = [
        Bin(int(chosen.sum()), float(confidence[chosen].mean()), float(correct[chosen].mean()))
        for chosen in (place == m for m in range(bins))
        if chosen.any()
    ]
    ece = expected_calibration_error(probabilities, labels, bins)
    return Reliability(found, ece, negative_log_likelihood(probabilities, labels))


def calibration(results: RunResults) -> Calibration | None:
    """Reliability of a run, and what a temperature would make of it.

    Images are halved by a hash of their ids; the temperature of either half is fitted on the other
    one, so that no image is scaled by a temperature that its own label helped to fit.

    Returns:
        None where the method has no probabilities.
    """
    probabilities, scale = results.probabilities, results.run.posterior_scale
    if probabilities is None or scale is None:
        return None
    before = reliability(probabilities, results.labels)
    halves = np.array([key("half", record.image_id) % 2 for record in results.records])
    fitted = [_temperature(results, np.flatnonzero(halves != half), scale) for half in (0, 1)]
    if None in fitted:
        return Calibration(before, None, ())
    temperatures = [float(t) for t in fitted if t is not None]
    scaled = np.empty_like(probabilities)
    for half, temperature in enumerate(temperatures):
        chosen = halves == half
        if chosen.any():
            scaled[chosen] = posterior(results.scores[chosen], scale / temperature)
    return Calibration(before, reliability(scaled, results.labels), temperatures)


def _temperature(results: RunResults, positions: Int64, scale: float) -> float | None:
    """Temperature fitted on some images; None without two images whose label was scored."""
    positions = positions[:MAX_FITTED_IMAGES]
    scores, labels = results.scores[positions], results.labels[positions]
    known = np.isfinite(scores[np.arange(len(labels)), labels])
    if known.sum() < 2 or results.n_classes < 2:
        return None
    return fit_temperature(scores[known], labels[known], scale)
