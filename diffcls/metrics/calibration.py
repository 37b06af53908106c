"""Calibration: posterior of scores, temperature scaling, expected calibration error (ECE).

Pure functions of arrays, as in `diffcls.metrics.classification`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from diffcls.metrics.validation import check_below, floats, indices, same_length
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins.

        ECE = Σ_m (n_m/n)·|accuracy_m − confidence_m|

    over M bins of equal width, ((m − 1)/M, m/M], of the largest probability.
    Source: Guo et al. 2017, eq. 3.

    Args:
        probabilities: (n, K), each row summing to 1.
        labels: (n,) class indices below K.
        bins: M, at least 1.

    Raises:
        UsageError: for empty input, shapes that differ, rows that are no distribution (NaN
            included), or labels out of range.
    """
    p, truth = _distributions(probabilities, labels)
    return calibration_error_of(p.max(axis=1), p.argmax(axis=1) == truth, bins)


def calibration_error_of(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """`expected_calibration_error` from what it reads of each image.

    Args:
        confidence: (n,) largest probability, in [0, 1].
        correct: (n,) bool: whether the class of that probability is the label.
        bins: M, at least 1.

    Raises:
        UsageError: for empty input, or lengths that differ.
    """
    p, right = floats("confidence", confidence, ndim=1), np.asarray(correct, dtype=bool)
    same_length("confidence", p, "correct", right)
    if bins < 1:
        raise UsageError("number of bins out of range", given=bins, allowed="at least 1")
    gap = right - p
    edges = np.linspace(0.0, 1.0, bins + 1)
    # a confidence that rounding lifted above 1 belongs to the last bin
    bin_of = np.searchsorted(edges[1:-1], p, side="left")
    return float(np.abs(np.bincount(bin_of, weights=gap, minlength=bins)).sum() / len(p))


def posterior(scores: ArrayLike, scale: float) -> Float64:
    """Posterior of the classes at equal prior: the softmax of scaled scores.

        p_k = exp(scale·s_k) / Σ_j exp(scale·s_j)

    Args:
        scores: (..., K), higher is better; −inf, as of a class never scored, gives probability 0.
        scale: factor from score to log-likelihood, above 0. For a mean error it is the number of
            dimensions averaged over, divided by the temperature.

    Returns:
        (..., K) float64, each row summing to 1.

    Raises:
        UsageError: for empty scores, NaN or +inf, a row of −inf only, or a scale not above 0.
    """
    return np.asarray(np.exp(log_posterior(scores, scale)), dtype=np.float64)


def log_posterior(scores: ArrayLike, scale: float) -> Float64:
    """Logarithm of `posterior`, finite where the probability is too small for a float64.

        log p_k = scale·s_k − log Σ_j exp(scale·s_j)

    Args:
        scores, scale: as in `posterior`; a score of −inf gives −inf.

    Returns:
        (..., K) float64, at most 0.

    Raises:
        UsageError: as `posterior`.
    """
    s = floats("scores", scores)
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError("scale out of range", given=scale, allowed="a finite number above 0")
    if s.ndim == 0:
        raise UsageError("scores are a single number", given=float(s), allowed="shape (..., K)")
    best = s.max(axis=-1, keepdims=True)  # the maximum propagates NaN and +inf
    if not np.isfinite(best).all():
        raise UsageError(
            "scores contain NaN, +inf or a row of -inf only",
            allowed="finite numbers, and -inf in rows with at least one finite number",
            todo="record such an image as failed",
        )
    with np.errstate(over="ignore"):
        shifted = (s - best) * scale
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def fit_temperature(
    scores: ArrayLike,
    labels: ArrayLike,
    scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Temperature scaling: the temperature of maximum likelihood on validation images.

        T = argmin −Σ_i w_i·log posterior(s_i, scale/T)[label_i] / Σ_i w_i

    Source: Guo et al. 2017, section 4.2. The likelihood is unimodal in log T. Where every image is
    classified right it has no maximum (T → 0, full confidence), so the image of smallest margin is
    counted once more with its runner-up as the label. Scores that do not separate the classes give
    a very large T; scores that all tie give T = 1.

    Args:
        scores: (n, K), K at least 2, higher is better, such as the log-probabilities of any
            classifier; −inf is allowed for classes other than the label.
        labels: (n,) class indices below K.
        scale: as in `posterior`, above 0.
        sample_weight: (n,) weights w, 0 or more: an image of weight 2 counts as two images, one of
            weight 0 as none. Default: 1 each.

    Returns:
        T > 0, proportional to `scale`; use ``posterior(scores, scale / T)``.

    Raises:
        UsageError: for empty input, shapes that differ, NaN or +inf, labels out of range or with
            score −inf, fewer than 2 classes, a scale not above 0, or weights that are negative, not
            finite or all 0.
    """
    from scipy import optimize

    s, truth = _labelled_scores(scores, labels, scale)
    w = check_weights(sample_weight, len(s))
    s, truth, w = s[w > 0], truth[w > 0], w[w > 0]
    margin = _margins(s, truth)
    counts = (margin != 0) & np.isfinite(margin)
    if not counts.any():
        return 1.0
    # makes the search independent of the scores' unit
    unit = _weighted_median(np.abs(margin[counts]), w[counts])
    if margin.min() >= 0:
        nearest = int(np.argmin(np.where(margin > 0, margin, np.inf)))
        others = np.where(np.arange(s.shape[1]) == truth[nearest], -np.inf, s[nearest])
        s = np.concatenate([s, s[nearest : nearest + 1]])
        truth, w = np.append(truth, others.argmax()), np.append(w, 1.0)
    rows = np.arange(len(s))

    def loss(log_t: float) -> float:
        gain = log_posterior(s, math.exp(-log_t) / unit)[rows, truth]
        return -float(np.average(gain, weights=w))

    reach = math.log(1e6)
    result = optimize.minimize_scalar(
        loss, bounds=(-reach, reach), method="bounded", options={"xatol": 1e-8}
    )
    return scale * unit * math.exp(float(result.x))


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Negative log-likelihood of the labels, in nats per image.

        NLL = −(1/n)·Σ_i log p_i[label_i]

    Infinite where a label has probability 0.

    Args:
        probabilities: (n, K), each row summing to 1.
        labels: (n,) class indices below K.

    Raises:
        UsageError: as `expected_calibration_error`.
    """
    p, truth = _distributions(probabilities, labels)
    with np.errstate(divide="ignore"):
        return -float(np.log(p[np.arange(len(p)), truth]).mean())


def check_weights(sample_weight: ArrayLike | None, n: int) -> Float64:
    """The weights of `n` images as (n,) float64; 1 each for None.

    Raises:
        UsageError: for another shape, and weights that are negative, not finite or all 0.
    """
    if sample_weight is None:
        return np.ones(n)
    weights = floats("sample_weight", sample_weight)
    if weights.shape != (n,):
        raise UsageError(
            "sample_weight has a wrong shape", given=weights.shape, allowed=f"({n},), one per image"
        )
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if wrong.size:
        raise UsageError(
            "sample_weight out of range", given=float(wrong[0]), allowed="finite numbers, 0 or more"
        )
    if not weights.any():
        raise UsageError("sample_weight is zero for every image", allowed="at least one above 0")
    return weights


def _labelled_scores(scores: ArrayLike, labels: ArrayLike, scale: float) -> tuple[Float64, Int64]:
    s, truth = floats("scores", scores, ndim=2), indices("labels", labels)
    same_length("scores", s, "labels", truth)
    check_below(truth, s.shape[1])
    if s.shape[1] < 2:
        raise UsageError("too few classes for a temperature", given=s.shape[1], allowed="2 or more")
    log_posterior(s, scale)  # refuses NaN, +inf and a scale out of range
    if not np.isfinite(s[np.arange(len(s)), truth]).all():
        raise UsageError(
            "a label has score -inf", todo="drop images whose own class was not scored"
        )
    return s, truth


def _margins(s: Float64, truth: Int64) -> Float64:
    """(n,) score of the label minus the best other score: negative for a wrong prediction."""
    rows = np.arange(len(s))
    others = s.copy()
    others[rows, truth] = -np.inf
    return np.asarray(s[rows, truth] - others.max(axis=1))


def _weighted_median(values: Float64, weights: Float64) -> float:
    """Median of the values, each counted as often as its weight says."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    half = reached[-1] / 2
    lower, upper = np.searchsorted(reached, half), np.searchsorted(reached, half, side="right")
    return float((values[order][lower] + values[order][upper]) / 2)


def _distributions(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Float64, Int64]:
    p, truth = floats("probabilities", probabilities, ndim=2), indices("labels", labels)
    same_length("probabilities", p, "labels", truth)
    check_below(truth, p.shape[1])
    # phrased so that NaN fails; the tolerance allows for half-precision probabilities
    if not ((p >= 0).all() and (np.abs(p.sum(axis=1) - 1) <= 1e-2).all()):
        raise UsageError(
            "probabilities: rows are no distributions",
            allowed="rows of numbers >= 0 that sum to 1, without NaN",
            todo="convert scores to probabilities with posterior()",
        )
    return p, truth
