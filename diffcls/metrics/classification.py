"""How good predictions are, and how sure one can be of it.

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
from numpy.typing import ArrayLike

from diffcls.metrics.validation import flags, floats, indices, same_length
from diffcls.support.errors import UsageError


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
    ranked, truth = indices("rankings", rankings, ndim=2), indices("labels", labels)
    same_length("rankings", ranked, "labels", truth)
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
    predicted, truth = indices("predictions", predictions), indices("labels", labels)
    same_length("predictions", predicted, "labels", truth)
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
    sample = floats("values", values, ndim=1)
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

    a, b = flags("correct_a", correct_a), flags("correct_b", correct_b)
    same_length("correct_a", a, "correct_b", b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise UsageError("confidence out of range", given=confidence, allowed="above 0, below 1")


def _keyed_generator(seed: int, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
