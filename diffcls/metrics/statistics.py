"""Confidence intervals and significance tests: Wilson, Newcombe, bootstrap, McNemar, sign flips.

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
from diffcls.support.types import Float64

MAX_EXACT_FLIPS = 13
"""Differences up to which all sign patterns are enumerated."""


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


def newcombe_interval(
    both: int, only_a: int, only_b: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Newcombe's score interval of the difference p_a − p_b of two paired proportions.

        low  = d − √(δ_a² − 2φ·δ_a·ε_b + ε_b²),    δ = p − l, ε = u − p
        high = d + √(δ_b² − 2φ·δ_b·ε_a + ε_a²),    d = p_a − p_b

    with the limits l and u of Wilson's interval of each proportion, and φ = C/√A:
    A is the product of the four margins, B = both·neither − only_a·only_b, and C is B − n/2 for
    B > n/2, B for B < 0, else 0. φ is 0 where a margin is 0.
    Source: Newcombe 1998, Statistics in Medicine 17, 2635–2650, method 10.

    Args:
        both, only_a, only_b, neither: number of images that both classifiers, only the first, only
            the second, or neither classifies correctly; at least one in all.
        confidence: between 0 and 1, exclusive.

    Raises:
        UsageError: for counts or a confidence out of range.
    """
    counts = (both, only_a, only_b, neither)
    n = sum(counts)
    if min(counts) < 0 or n < 1:
        raise UsageError("counts out of range", given=counts, allowed="0 or more, one in all")
    right_a, right_b = both + only_a, both + only_b
    low_a, high_a = wilson_interval(right_a, n, confidence)
    low_b, high_b = wilson_interval(right_b, n, confidence)
    p_a, p_b = right_a / n, right_b / n
    excess = both * neither - only_a * only_b
    corrected = excess - n / 2 if excess > n / 2 else min(excess, 0)
    margins = right_a * (n - right_a) * right_b * (n - right_b)
    phi = corrected / math.sqrt(margins) if margins else 0.0

    def length(x: float, y: float) -> float:
        # rounding can take the square of equal, fully correlated lengths below 0
        return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))

    difference = (only_a - only_b) / n
    low = difference - length(p_a - low_a, high_b - p_b)
    high = difference + length(p_b - low_b, high_a - p_a)
    return max(-1.0, low), min(1.0, high)


def holm(p_values: ArrayLike) -> Float64:
    """Holm's step-down correction of p-values for the number of comparisons.

        p̃_(i) = max_{j ≤ i} min(1, (m − j + 1)·p_(j)),    p_(1) ≤ … ≤ p_(m)

    The corrected p-values bound the probability of any false rejection among all m comparisons.
    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65–70.

    Args:
        p_values: (m,) between 0 and 1.

    Returns:
        (m,) in the order given.

    Raises:
        UsageError: for empty input, or values outside [0, 1].
    """
    p = floats("p_values", p_values, ndim=1)
    if not ((p >= 0) & (p <= 1)).all():
        raise UsageError("p_values out of range", allowed="0 to 1")
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * p[order]))
    return corrected


def sign_flip_test(differences: ArrayLike, seed: int, resamples: int = 9999) -> float:
    """Paired randomisation test: two-sided p-value for a mean difference of zero.

    Under the null hypothesis the sign of each image's difference is arbitrary. The p-value is the
    fraction of sign patterns whose mean is at least as far from zero as the observed one: of all
    patterns for up to 13 differences that are not zero, else of random ones with the observed one
    counted (Phipson and Smyth 2010). For differences of −1, 0 and 1 it is McNemar's exact test.

    Args:
        differences: (n,) one finite number per image.
        seed: seed of the random sign patterns.
        resamples: number of random patterns, at least 1.

    Raises:
        UsageError: for empty input, values not finite, or a number of patterns out of range.
    """
    sample = floats("differences", differences, ndim=1)
    if not np.isfinite(sample).all() or resamples < 1:
        raise UsageError("differences are not finite, or resamples is below 1")
    sample = sample[sample != 0]
    if len(sample) == 0:
        return 1.0
    observed = abs(sample.sum()) - 1e-9 * np.abs(sample).sum()  # sums of rounded numbers
    if len(sample) <= MAX_EXACT_FLIPS:
        bits = np.arange(2 ** len(sample))[:, None] >> np.arange(len(sample)) & 1
        return float((np.abs((2 * bits - 1) @ sample) >= observed).mean())
    generator = keyed_generator(seed, "sign flips")
    hits, rows = 0, max(1, 2**22 // len(sample))  # the patterns of one batch stay below 32 MiB
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(sample))
        signs = 2.0 * generator.integers(0, 2, size=shape, dtype=np.int8) - 1
        hits += int((np.abs(signs @ sample) >= observed).sum())
    return (hits + 1) / (resamples + 1)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise UsageError("confidence out of range", given=confidence, allowed="above 0, below 1")
