"""Confidence intervals and significance tests: Wilson, bootstrap (BCa), McNemar.

Pure functions of arrays, n being the number of images. Input that is empty, not finite or of the
wrong shape raises UsageError.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from diffcls.metrics.validation import flags, floats, same_length
from diffcls.support.errors import UsageError
from diffcls.support.seeding import keyed_generator


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, which also holds near 0 and 1.

        (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n)

    Source: Wilson 1927; with z the normal quantile of (1 + confidence)/2.

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
    """Bootstrap confidence interval of a statistic over images, by the BCa method (Efron 1987).

    BCa corrects for bias and skewness (bias-corrected and accelerated). Where the correction is
    undefined (all values equal, or no single image changes the statistic), the result is the plain
    percentile interval.

    Args:
        values: (n,) one finite number per image, n at least 2.
        seed: seed of the resampling; the interval depends on seed and values only.
        statistic: function from an array to a number; if it takes `axis`, it is vectorised.
        resamples: number of resamples, at least 1.
        confidence: between 0 and 1, exclusive.

    Raises:
        UsageError: for fewer than two values, values not finite, or arguments out of range.
    """
    from scipy import stats

    _check_confidence(confidence)
    sample = floats("values", values, ndim=1)
    if not np.isfinite(sample).all():
        raise UsageError("values are not finite", todo="leave out images that failed")
    if len(sample) < 2 or resamples < 1:
        raise UsageError(
            "too few values or resamples for a bootstrap",
            given={"values": len(sample), "resamples": resamples},
            allowed="at least 2 values and 1 resample",
        )
    # the resamples of one batch stay below about 32 MiB, whatever n is
    batch = max(1, 2**22 // len(sample))
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # an undefined BCa interval is NaN, handled below
            interval = stats.bootstrap(
                (sample,),
                statistic,
                n_resamples=resamples,
                batch=batch,
                confidence_level=confidence,
                method=method,
                rng=keyed_generator(seed, "bootstrap"),
            ).confidence_interval
        low, high = float(interval.low), float(interval.high)
        if not (math.isnan(low) or math.isnan(high)):
            return low, high
    raise UsageError(
        "the statistic is NaN on resamples", todo="use a statistic that is defined on every sample"
    )


def mcnemar_exact(correct_a: ArrayLike, correct_b: ArrayLike) -> float:
    """Exact McNemar test: two-sided p-value for equal error rates on the same images.

        p = min(1, 2·P[X ≤ min(b, c)]),    X ~ Binomial(b + c, ½)

    Only discordant images count: b of them are right in `correct_a` alone, c in `correct_b` alone
    (McNemar 1947). Without discordant images p is 1.

    Args:
        correct_a: (n,) bool, or 0 and 1: whether the first classifier is right.
        correct_b: (n,) the same for the second classifier, images in the same order.

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
