"""How good predictions are, how sure one can be of it, and how honest their probabilities are.

Pure functions of arrays. n counts images, K classes; every fraction lies in [0, 1]. An input that
is empty, not finite or does not fit raises UsageError: a figure is right or it is not given.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffcls.errors import UsageError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def top_k_accuracy(rankings: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """The fraction of images whose label is among the first `k` classes of their ranking.

    Args:
        rankings: (n, K) class indices, best first; columns beyond the first k are not read.
        labels: (n,) class indices.
        k: 1 for the usual accuracy, 5 for top-5; at most the number of columns.

    Raises:
        UsageError: for empty input, shapes that do not fit, values that are no class index, a class
            ranked twice, or a k out of range.
    """
    ranked, truth = _indices("rankings", rankings, ndim=2), _indices("labels", labels)
    _same_length("rankings", ranked, "labels", truth)
    if not 1 <= k <= ranked.shape[1]:
        raise UsageError("k out of range", given=k, allowed=f"1 to {ranked.shape[1]}, as ranked")
    best = ranked[:, :k]
    if (np.diff(np.sort(best, axis=1), axis=1) == 0).any():
        raise UsageError("a ranking names a class twice", todo="rank every class once, best first")
    return float((best == truth[:, None]).any(axis=1).mean())


def mean_per_class(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The mean over classes of the fraction of a class's images that are predicted right.

    Also called balanced accuracy or macro recall. Classes without an image in `labels` do not
    count.

    Args:
        predictions: (n,) predicted class indices.
        labels: (n,) class indices.

    Raises:
        UsageError: for empty input, lengths that differ, or values that are no class index.
    """
    predicted, truth = _indices("predictions", predictions), _indices("labels", labels)
    _same_length("predictions", predicted, "labels", truth)
    _, class_of = np.unique(truth, return_inverse=True)
    right = np.bincount(class_of, weights=predicted == truth)
    return float((right / np.bincount(class_of)).mean())


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927), which holds near 0 and 1 too.

    Args:
        successes: 0 to n.
        n: number of images, at least 1.
        confidence: between 0 and 1, exclusive.

    Raises:
        UsageError: for counts or a confidence out of range.
    """
    _check_confidence(confidence)
    if n < 1 or not 0 <= successes <= n:
        raise UsageError(
            "counts out of range", given=(successes, n), allowed="0 <= successes <= n, n >= 1"
        )
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    # (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n)
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    shrink = 1 + z * z / n
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / shrink)
    high = 1.0 if successes == n else min(1.0, (centre + half) / shrink)
    return low, high


def bootstrap_interval(
    values: ArrayLike,
    seed: int,
    statistic: Callable[..., Any] = np.mean,
    resamples: int = 9999,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """A bootstrap interval of a statistic over images: BCa (Efron 1987).

    Where the bias correction is not defined (values that are all equal, or a statistic that no
    single image moves) the interval is the plain percentile one.

    Args:
        values: (n,) one finite number an image, n at least 2.
        seed: the interval depends on the seed and the values only.
        statistic: from an array to a number; one with an `axis` argument is called in bulk.
        resamples: number of resamples, at least 1.
        confidence: between 0 and 1, exclusive.

    Raises:
        UsageError: for fewer than two values, values not finite, or arguments out of range.
    """
    from scipy import stats

    _check_confidence(confidence)
    sample = _floats("values", values, ndim=1)
    if not np.isfinite(sample).all():
        raise UsageError("values are not finite", todo="leave failed images out")
    if len(sample) < 2 or resamples < 1:
        raise UsageError(
            "too little to resample",
            given={"values": len(sample), "resamples": resamples},
            allowed="at least 2 values and 1 resample",
        )
    # the resamples of one batch stay below about 32 MiB, whatever n is
    batch = max(1, 2**22 // len(sample))
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # undefined BCa: seen below as NaN
            interval = stats.bootstrap(
                (sample,),
                statistic,
                n_resamples=resamples,
                batch=batch,
                confidence_level=confidence,
                method=method,
                rng=_keyed_generator(seed, "bootstrap"),
            ).confidence_interval
        low, high = float(interval.low), float(interval.high)
        if not (math.isnan(low) or math.isnan(high)):
            return low, high
    raise UsageError("the statistic gives NaN on resamples", todo="use one defined on any sample")


def mcnemar_exact(correct_a: ArrayLike, correct_b: ArrayLike) -> float:
    """The two-sided exact p-value that two classifiers err equally often on the same images.

    Only discordant images speak: with b of them right in `correct_a` alone and c in `correct_b`
    alone, b is Binomial(b + c, ½) if neither is better (McNemar 1947). 1.0 where there are none.

    Args:
        correct_a: (n,) bool, or 0 and 1: whether the first classifier is right.
        correct_b: (n,) the same of the second one, in the same order of images.

    Raises:
        UsageError: for empty input, lengths that differ, or values other than 0 and 1.
    """
    from scipy import stats

    a, b = _flags("correct_a", correct_a), _flags("correct_b", correct_b)
    _same_length("correct_a", a, "correct_b", b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> float:
    """How far confidence is from accuracy, on average over images (Guo et al. 2017, eq. 3).

        ECE = Σ_m (n_m/n)·|accuracy_m − confidence_m|

    over `bins` bins of equal width, ((m − 1)/M, m/M], of the largest probability.

    Args:
        probabilities: (n, K), each row summing to 1.
        labels: (n,) class indices below K.
        bins: M, at least 1.

    Raises:
        UsageError: for empty input, shapes that do not fit, rows that are no distribution (NaN
            included), or labels out of range.
    """
    p, truth = _distributions(probabilities, labels)
    if bins < 1:
        raise UsageError("number of bins out of range", given=bins, allowed="at least 1")
    confidence = p.max(axis=1)
    gap = (p.argmax(axis=1) == truth) - confidence
    edges = np.linspace(0.0, 1.0, bins + 1)
    # a confidence that rounding lifted above 1 belongs to the last bin
    bin_of = np.searchsorted(edges[1:-1], confidence, side="left")
    return float(np.abs(np.bincount(bin_of, weights=gap, minlength=bins)).sum() / len(truth))


def posterior(scores: ArrayLike, scale: float) -> Floats:
    """p_k = exp(scale·s_k) / Σ_j exp(scale·s_j), the classes' posterior at equal prior.

    Args:
        scores: (..., K), higher is better; −inf gives probability 0, as of a class never scored.
        scale: what turns a score into a log-likelihood, above 0. Of a mean error it is the number
            of dimensions averaged over, divided by the temperature.

    Returns:
        (..., K) float64, each row summing to 1.

    Raises:
        UsageError: for empty scores, NaN or +inf, a row of −inf only, or a scale not above 0.
    """
    return np.asarray(np.exp(_log_posterior(scores, scale)), dtype=np.float64)


def fit_temperature(scores: ArrayLike, labels: ArrayLike, scale: float) -> float:
    """The T that minimises the mean negative log-likelihood of ``posterior(scores, scale/T)``.

    Temperature scaling (Guo et al. 2017, sec. 4.2), fitted on validation images; the likelihood is
    unimodal in log T. Where every image is right it has no minimum (T → 0, certain of everything),
    so the image of smallest margin is then counted once more, with its runner-up as the label.
    Where scores do not tell classes apart T is very large, where all of them tie it is 1.

    Args:
        scores: (n, K), K at least 2, higher is better; −inf is allowed for classes other than the
            label.
        labels: (n,) class indices below K.
        scale: as in `posterior`, above 0.

    Returns:
        T > 0, in proportion to the scale: the posterior's own scale is ``scale / T``.

    Raises:
        UsageError: for empty input, shapes that do not fit, NaN or +inf, labels out of range or of
            score −inf, fewer than 2 classes, or a scale not above 0.
    """
    from scipy import optimize

    s, truth = _labelled_scores(scores, labels, scale)
    margin = _margins(s, truth)
    known = np.abs(margin[(margin != 0) & np.isfinite(margin)])
    if known.size == 0:
        return 1.0
    if margin.min() >= 0:
        nearest = int(np.argmin(np.where(margin > 0, margin, np.inf)))
        others = np.where(np.arange(s.shape[1]) == truth[nearest], -np.inf, s[nearest])
        s = np.concatenate([s, s[nearest : nearest + 1]])
        truth = np.append(truth, others.argmax())
    unit = float(np.median(known))  # so that the search does not depend on the unit of the scores
    rows = np.arange(len(s))

    def loss(log_t: float) -> float:
        return -float(_log_posterior(s, math.exp(-log_t) / unit)[rows, truth].mean())

    reach = math.log(1e6)
    found = optimize.minimize_scalar(
        loss, bounds=(-reach, reach), method="bounded", options={"xatol": 1e-8}
    )
    return scale * unit * math.exp(float(found.x))


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """−(1/n)·Σ_i log p_i[label_i], in nats an image; infinite where a label has probability 0.

    Args:
        probabilities: (n, K), each row summing to 1.
        labels: (n,) class indices below K.

    Raises:
        UsageError: as `expected_calibration_error`.
    """
    p, truth = _distributions(probabilities, labels)
    with np.errstate(divide="ignore"):
        return -float(np.log(p[np.arange(len(p)), truth]).mean())


def _log_posterior(scores: ArrayLike, scale: float) -> Floats:
    s = _floats("scores", scores)
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError("scale out of range", given=scale, allowed="a finite number above 0")
    if s.ndim == 0:
        raise UsageError("scores are a single number", given=float(s), allowed="shape (..., K)")
    best = s.max(axis=-1, keepdims=True)  # NaN and +inf come through the maximum
    if not np.isfinite(best).all():
        raise UsageError(
            "scores hold NaN, +inf or a row of -inf only",
            allowed="finite numbers, and -inf beside at least one of them",
            todo="record such an image as failed",
        )
    with np.errstate(over="ignore"):
        shifted = (s - best) * scale
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _labelled_scores(scores: ArrayLike, labels: ArrayLike, scale: float) -> tuple[Floats, Integers]:
    s, truth = _floats("scores", scores, ndim=2), _indices("labels", labels)
    _same_length("scores", s, "labels", truth)
    _check_below(truth, s.shape[1])
    if s.shape[1] < 2:
        raise UsageError("too few classes for a temperature", given=s.shape[1], allowed="2 or more")
    _log_posterior(s, scale)  # refuses NaN, +inf and a scale out of range
    if not np.isfinite(s[np.arange(len(s)), truth]).all():
        raise UsageError(
            "a label has score -inf", todo="fit on images whose own class was scored, or drop them"
        )
    return s, truth


def _margins(s: Floats, truth: Integers) -> Floats:
    """(n,) score of the label less the best other score: below 0 where the prediction is wrong."""
    rows = np.arange(len(s))
    others = s.copy()
    others[rows, truth] = -np.inf
    return np.asarray(s[rows, truth] - others.max(axis=1))


def _distributions(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Integers]:
    p, truth = _floats("probabilities", probabilities, ndim=2), _indices("labels", labels)
    _same_length("probabilities", p, "labels", truth)
    _check_below(truth, p.shape[1])
    # written so that NaN fails; the tolerance is that of half-precision probabilities
    if not ((p >= 0).all() and (np.abs(p.sum(axis=1) - 1) <= 1e-2).all()):
        raise UsageError(
            "probabilities are no distributions",
            allowed="rows of numbers >= 0 that sum to 1, without NaN",
            todo="turn scores into probabilities with posterior()",
        )
    return p, truth


def _floats(name: str, values: ArrayLike, ndim: int | None = None) -> Floats:
    array = _array(name, values, np.float64)
    _check_shape(name, array, ndim)
    return array


def _indices(name: str, values: ArrayLike, ndim: int = 1) -> Integers:
    array = _array(name, values)
    _check_shape(name, array, ndim)
    if array.dtype.kind not in "iu" or (array < 0).any():
        raise UsageError(f"{name} are no class indices", given=array.dtype.name, allowed="0, 1, …")
    return array.astype(np.int64)


def _flags(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    array = _array(name, values)
    _check_shape(name, array, 1)
    if not np.isin(array, (0, 1)).all():
        raise UsageError(f"{name} is not a list of right and wrong", allowed="True and False")
    return array.astype(bool)


def _array(name: str, values: ArrayLike, dtype: type[Any] | None = None) -> NDArray[Any]:
    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError):  # ragged lists, words
        raise UsageError(f"{name}: not an array of numbers", todo="rows of one length") from None


def _check_shape(name: str, array: NDArray[Any], ndim: int | None) -> None:
    if array.size == 0:
        raise UsageError(f"{name}: empty", todo="give at least one image")
    if ndim is not None and array.ndim != ndim:
        raise UsageError(
            f"{name}: wrong number of axes", given=array.shape, allowed=("(n,)", "(n, K)")[ndim - 1]
        )


def _same_length(name: str, a: NDArray[Any], other: str, b: NDArray[Any]) -> None:
    if len(a) != len(b):
        raise UsageError(
            f"{name} and {other} differ in length",
            given=(len(a), len(b)),
            allowed="one entry an image in each",
        )


def _check_below(labels: Integers, n_classes: int) -> None:
    if labels.max() >= n_classes:
        raise UsageError(
            "label out of range", given=int(labels.max()), allowed=f"0 to {n_classes - 1}"
        )


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise UsageError("confidence out of range", given=confidence, allowed="above 0, below 1")


def _keyed_generator(seed: int, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
