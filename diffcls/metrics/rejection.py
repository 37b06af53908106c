"""Rejection, or open-set recognition: is the image's class among the candidates at all?

Pure functions of arrays; n is the number of images, K that of candidates. A *known* image is of a
candidate class; an *unknown* one is of another class, so its right answer is "none of these".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from diffcls.metrics.validation import floats, same_length
from diffcls.support.errors import UsageError
from diffcls.support.seeding import keyed_generator
from diffcls.support.types import Float64, Int64


@dataclass(frozen=True)
class Calibration:
    """Calibrated posterior of K candidates and the background class.

    Args:
        scale: λ, factor from score to log-likelihood, above 0.
        offset: b, log-odds in favour of the background class, finite.
        of: hash of the prompts that it was fitted for; empty if they are not known.

    Raises:
        UsageError: for values out of range.
    """

    scale: float
    offset: float
    of: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _check_scale(self.scale)
        if not math.isfinite(self.offset):
            raise UsageError("offset is not finite", given=self.offset, allowed="a finite number")

    def with_background(self, scores: ArrayLike, background: ArrayLike) -> Float64:
        """(n, K + 1) scores whose softmax, times `scale`, is the posterior; background last."""
        s, s0 = _scores(scores, background)
        return np.column_stack([s, s0 + self.offset / self.scale])


def candidate_log_odds(scores: ArrayLike, background: ArrayLike, scale: float) -> Float64:
    """Decision statistic: log-odds of the candidates together against the background class.

        ℓ(x) = log Σ_k exp(λ·(s_k − s_0))                                                    (1)

    With exact likelihoods λ·(s_k − s_0) = log p(x|k)/p(x|∅). If the background prompt stands for
    all classes, p(x|∅) = Σ_c π_c·p(x|c), and equal priors π, then by Bayes' rule

        exp ℓ(x) = Σ_k p(x|k) / p(x|∅) = P(class of x is a candidate | x) / π,               (2)

    so ranking images by ℓ is ranking them by the probability that their class is a candidate: no
    statistic separates known from unknown images better (Neyman and Pearson 1933). As a class of
    its own, of prior odds e^b, the background has the posterior

        P(none | x) = e^b / (e^b + exp ℓ(x)) = 1 / (1 + exp(ℓ(x) − b)).                      (3)

    Only the differences s_k − s_0 enter. The sum is that of its largest term but for classes nearly
    as good as the best, so what the decision needs is the paired difference of the best candidate
    and the background over common draws, whose noise is common to both and cancels.

    Args:
        scores: (n, K) of the candidates; −inf for a class that was never scored.
        background: (n,) of the background prompt.
        scale: λ, above 0.

    Returns:
        (n,) float64: high where a candidate explains the image.
    """
    s, s0 = _scores(scores, background)
    _check_scale(scale)
    best = s.max(axis=1)
    within = np.log(np.exp(scale * (s - best[:, None])).sum(axis=1))
    return np.asarray(scale * (best - s0) + within, dtype=np.float64)


def fit_calibration(
    scores: ArrayLike, background: ArrayLike, labels: ArrayLike, scale: float
) -> Calibration:
    """Scale and offset of maximum likelihood on validation images, known and unknown ones.

        (λ, b) = argmax Σ_i w_i·log P(y_i | x_i),
        P(k | x) ∝ exp(λ·s_k),   P(none | x) ∝ exp(λ·s_0 + b)

    It is multinomial logistic regression with two parameters, so the maximum is unique: temperature
    scaling (Guo et al. 2017) with a bias of one class. So that it is finite where validation images
    are separated without an error, a known image counts 1/(n₁ + 2) as unknown and an unknown one
    1/(n₀ + 2) as known, of n₁ known and n₀ unknown ones (Platt 1999, section 2.2). Known and
    unknown images weigh the same in total, as their numbers are those of the validation set, not of
    the images to come.

    Args:
        scores: (n, K) of the candidates.
        background: (n,) of the background prompt.
        labels: (n,) class indices, K for an unknown image.
        scale: λ to begin with, above 0: its unit is the scores'.

    Raises:
        UsageError: for shapes that differ, values that are not finite, or only known or only
            unknown images.
    """
    from scipy import optimize

    s, s0 = _scores(scores, background)
    _check_scale(scale)
    truth = np.asarray(labels)
    same_length("scores", s, "labels", truth)
    unknown = truth == s.shape[1]
    n0, n1 = int(unknown.sum()), int((~unknown).sum())
    if not n0 or not n1 or truth.min() < 0 or truth.max() > s.shape[1]:
        raise UsageError(
            "calibration needs images of the candidates and of other classes",
            given=f"{n1} and {n0}",
            allowed="labels 0 to K, K for none of these, both kinds present",
        )
    # relative to the background; the best candidate stands for unknown images that count as known
    gaps = scale * (s - s0[:, None])
    rows = np.arange(len(s))
    own = np.where(unknown, gaps.argmax(axis=1), truth)
    unit = float(np.median(np.abs(gaps[rows, own]))) or 1.0
    gaps = np.maximum(gaps / unit, -1e6)  # a class that was never scored has no share
    to_background = np.where(unknown, 1 - 1 / (n0 + 2), 1 / (n1 + 2))
    weight = np.where(unknown, 0.5 / n0, 0.5 / n1)

    def loss(parameters: Float64) -> tuple[float, Float64]:
        factor, offset = parameters
        logits = np.column_stack([factor * gaps, np.full(len(gaps), offset)])
        logits -= logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        expected = (1 - to_background) * log_p[rows, own] + to_background * log_p[:, -1]
        by_factor = (p[:, :-1] * gaps).sum(axis=1) - (1 - to_background) * gaps[rows, own]
        by_offset = p[:, -1] - to_background
        return -float(weight @ expected), np.array([weight @ by_factor, weight @ by_offset])

    result = optimize.minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-6, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    return Calibration(scale * float(result.x[0]) / unit, float(result.x[1]))


def auroc(known: ArrayLike, unknown: ArrayLike) -> float:
    """Area under the ROC curve: P(known > unknown) + ½·P(equal) over pairs of images.

    Args:
        known, unknown: statistic of the known and of the unknown images, high for known ones.

    Raises:
        UsageError: for empty input or NaN.
    """
    a, b = _statistics(known, unknown)
    ordered = np.sort(b)
    below = np.searchsorted(ordered, a, "left") + np.searchsorted(ordered, a, "right")
    return float(below.mean() / (2 * len(b)))


def fpr_at_recall(known: ArrayLike, unknown: ArrayLike, recall: float = 0.95) -> float:
    """False-positive rate at a recall: unknown images accepted where `recall` of known ones are.

    An image is accepted from a threshold on; it is the largest one at which at least `recall` of
    the known images are accepted (Hendrycks and Gimpel 2017).

    Args:
        known, unknown: as for `auroc`.
        recall: above 0, at most 1.
    """
    a, b = _statistics(known, unknown)
    if not 0 < recall <= 1:
        raise UsageError("recall out of range", given=recall, allowed="above 0, at most 1")
    # 0.95 · 20 must count 19 images, not 20
    accepted = math.ceil(round(recall * len(a), 9))
    threshold = np.sort(a)[len(a) - accepted]
    return float((b >= threshold).mean())


def bootstrap_over_images(
    figure: Callable[[Int64, Int64], float],
    n_known: int,
    n_unknown: int,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval; known and unknown images are resampled separately.

    Args:
        figure: (indices of known images, indices of unknown images) -> the figure of a resample.
        n_known, n_unknown: numbers of images, 1 or more each.
        seed: seed of the resampling.
        resamples, confidence: number of resamples; confidence level.
    """
    rng = keyed_generator(seed, "bootstrap of rejection")
    values = [
        figure(rng.integers(0, n_known, n_known), rng.integers(0, n_unknown, n_unknown))
        for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def best_posterior(scores: ArrayLike, scale: float) -> Float64:
    """(n,) log-odds of the largest posterior of the candidates, log p/(1 − p).

    The usual baseline (Hendrycks and Gimpel 2017). As odds it orders images like p itself, but does
    not round to 1.

    Args:
        scores: (n, K) of the candidates, K at least 2; −inf for a class that was never scored.
        scale: factor from score to log-likelihood, above 0.
    """
    s = np.sort(floats("scores", scores, ndim=2), axis=1)
    _check_scale(scale)
    # where no other candidate was scored, as in a shortlist of one, the odds are infinite
    second = np.where(np.isneginf(s[:, -2:-1]), 0.0, s[:, -2:-1])
    with np.errstate(divide="ignore"):
        rest = np.log(np.exp(scale * (s[:, :-1] - second)).sum(axis=1))
    return np.asarray(scale * (s[:, -1] - second[:, 0]) - rest, dtype=np.float64)


def margin(scores: ArrayLike) -> Float64:
    """(n,) score of the best candidate minus that of the second best."""
    s = np.sort(floats("scores", scores, ndim=2), axis=1)
    return np.asarray(s[:, -1] - s[:, -2])


def _scores(scores: ArrayLike, background: ArrayLike) -> tuple[Float64, Float64]:
    s, s0 = floats("scores", scores, ndim=2), floats("background", background, ndim=1)
    same_length("scores", s, "background", s0)
    if not np.isfinite(s.max(axis=1)).all() or not np.isfinite(s0).all():
        raise UsageError(
            "scores are not finite",
            allowed="a finite background and at least one finite candidate per image",
            todo="leave out images that failed",
        )
    return s, s0


def _statistics(known: ArrayLike, unknown: ArrayLike) -> tuple[Float64, Float64]:
    a, b = floats("known", known, ndim=1), floats("unknown", unknown, ndim=1)
    if np.isnan(a).any() or np.isnan(b).any():
        raise UsageError("statistics are NaN", todo="leave out images that failed")
    return a, b


def _check_scale(scale: float) -> None:
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError("scale out of range", given=scale, allowed="a finite number above 0")
