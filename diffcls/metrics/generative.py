"""Fidelity metrics of generated images: FID, KID, Inception Score, precision and recall.

All are functions of feature arrays (n, d) and independent of the feature extractor. Computations
are in float64; a result that is not finite is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.support.errors import RecordError, UsageError
from diffcls.support.types import Float64, Int64

Features = NDArray[np.floating]


@dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class Statistics:
    """Mean and covariance of features, the input of FID.

    Args:
        mean: (d,).
        covariance: (d, d), with n − 1 in the denominator.
        count: n images.
    """

    mean: Float64
    covariance: Float64
    count: int

    @classmethod
    def of(cls, features: Features) -> Statistics:
        """The mean and covariance of (n, d) features.

        Raises:
            UsageError: for fewer than two images.
            RecordError: for features that are not finite.
        """
        x = _checked(features)
        return cls(x.mean(axis=0), np.atleast_2d(np.cov(x, rowvar=False)), len(x))


def fid(real: Statistics, generated: Statistics) -> float:
    """Fréchet Inception Distance: the squared Fréchet distance of two Gaussians.

        FID = ‖μ − μ′‖² + tr(Σ + Σ′ − 2·(ΣΣ′)^½)

    Source: Heusel et al. 2017, eq. 6; Dowson and Landau 1982. The trace of the root is the sum of
    the square roots of the eigenvalues of ΣΣ′, which are real and not negative; imaginary and
    negative parts are rounding errors and set to 0.
    """
    from scipy.linalg import eigvals

    gap = float(((real.mean - generated.mean) ** 2).sum())
    roots = np.sqrt(np.maximum(eigvals(real.covariance @ generated.covariance).real, 0.0))
    traces = np.trace(real.covariance) + np.trace(generated.covariance)
    value = gap + float(traces - 2 * roots.sum())
    # the distance of a set to itself is 0, which rounding can turn negative
    return _finite("FID", max(value, 0.0))


@dataclass(frozen=True)
class Estimate:
    """A metric's value and its standard error; the error is NaN for a single subset or part."""

    value: float
    stderr: float


def kid(
    real: Features,
    generated: Features,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
    classes: tuple[Int64, Int64] | None = None,
) -> Estimate:
    """Kernel Inception Distance: unbiased squared MMD with a cubic kernel, mean over subsets.

        KID = Σ_{i≠j} k(x_i, x_j)/(m(m−1)) + Σ_{i≠j} k(y_i, y_j)/(m(m−1)) − 2·Σ k(x_i, y_j)/m²
        k(x, y) = (x·y/d + 1)³

    Source: Bińkowski et al. 2018, section 4. The estimate is unbiased, so it may be negative.

    Args:
        real, generated: (n, d) and (n′, d).
        subsets: number of random subsets.
        size: m, images per subset; a set of no more images is used whole.
        seed: seed of the subsets.
        classes: (n,) and (n′,) class indices of class-balanced sets. Two images of such a set
            share a class less often than independent images do, which biases the estimate below 0;
            with the classes given, each subset draws its class counts from a multinomial instead.

    Returns:
        the mean, and its standard error with respect to the population. Subsets of m of the n
        images of the smaller set overlap, so s/√subsets, with s the standard deviation over
        subsets, would vanish as their number grows. s²·m/(n − m) is the variance of the full
        estimate (delete-(n − m) jackknife; Shao and Wu 1989), s²/subsets that of the subsampling.
        It is conservative where both distributions are equal; NaN where a set is used whole.

    Raises:
        UsageError: for a size below two, or features of different widths.
        RecordError: for features that are not finite.
    """
    x, y = _pair(real, generated)
    if size < 2 or subsets < 1:
        raise UsageError(
            "KID: subsets or size out of range",
            given=(subsets, size),
            allowed="1 or more subsets of 2 or more images",
        )
    size = min(size, len(x), len(y))
    if classes is None and size == max(len(x), len(y)):
        subsets = 1  # all subsets would be the same
    rng = np.random.default_rng(seed)
    of_x, of_y = classes or (None, None)
    values = [
        _mmd(x[_subset(len(x), size, of_x, rng)], y[_subset(len(y), size, of_y, rng)])
        for _ in range(subsets)
    ]
    mean, count = _finite("KID", float(np.mean(values))), min(len(x), len(y))
    if size == count:
        return Estimate(mean, math.nan)
    deviation = _standard_deviation(values)
    return Estimate(mean, deviation * math.sqrt(size / (count - size) + 1 / len(values)))


def _subset(count: int, size: int, labels: Int64 | None, rng: np.random.Generator) -> Int64:
    """Row indices of a random subset, see `kid`; a class with too few images gives all of them."""
    if labels is None:
        return rng.choice(count, size, replace=False)
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    counts = rng.multinomial(size, [len(rows) / count for rows in members])
    return np.concatenate(
        [
            rng.choice(rows, min(n, len(rows)), replace=False)
            for n, rows in zip(counts, members, strict=True)
        ]
    )


def _mmd(x: Float64, y: Float64) -> float:
    d = x.shape[1]
    within = 0.0
    for k in (_cubic(x, x, d), _cubic(y, y, d)):
        within += float(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    return within - 2 * float(_cubic(x, y, d).mean())


def _cubic(x: Float64, y: Float64, d: int) -> Float64:
    kernel: Float64 = (x @ y.T / d + 1.0) ** 3
    return kernel


def inception_score(logits: Features, splits: int = 10, seed: int = 0) -> Estimate:
    """Inception Score, between 1 and the number of classes K.

        IS = exp(E_x KL(p(y | x) ‖ p(y)))

    Source: Salimans et al. 2016, section 4.

    Args:
        logits: (n, K) of a classifier on generated images.
        splits: number of random parts whose scores are averaged.
        seed: seed of the shuffle before the split.

    Returns:
        the mean over the parts, and its standard error, standard deviation/√splits.

    Raises:
        UsageError: for more parts than images.
        RecordError: for logits that are not finite.
    """
    from scipy.special import log_softmax

    x = _checked(logits)
    if not 1 <= splits <= len(x):
        raise UsageError("parts out of range", given=splits, allowed=f"1 to {len(x)}")
    log_p = log_softmax(x[np.random.default_rng(seed).permutation(len(x))], axis=1)
    values = []
    for part in np.array_split(log_p, splits):
        p = np.exp(part)
        marginal = p.mean(axis=0)
        with np.errstate(divide="ignore"):  # a class of probability 0: 0·log 0 = 0
            log_marginal = np.where(marginal > 0, np.log(marginal), 0.0)
        values.append(math.exp(float((p * (part - log_marginal)).sum(axis=1).mean())))
    mean = _finite("IS", float(np.mean(values)))
    return Estimate(mean, _standard_deviation(values) / math.sqrt(splits))


def precision_recall(
    real: Features, generated: Features, neighbours: int = 3, batch: int = 1000
) -> tuple[float, float]:
    """Improved precision and recall of generative models.

        f(φ, Φ)   = 1 if ‖φ − φ′‖ ≤ ‖φ′ − NN_k(φ′, Φ)‖ for some φ′ ∈ Φ, else 0
        precision = mean over generated φ of f(φ, real)
        recall    = mean over real φ of f(φ, generated)

    A manifold is thus the union of balls around its points, each reaching to the k-th nearest
    neighbour. Source: Kynkäänniemi et al. 2019, eq. 1 and 2.

    Args:
        real, generated: (n, d) and (n′, d), more than k each.
        neighbours: k.
        batch: rows of the distance matrix held in memory at a time.

    Raises:
        UsageError: for too few images, or features of different widths.
        RecordError: for features that are not finite.
    """
    x, y = _pair(real, generated)
    fewest = min(len(x), len(y))
    if not 1 <= neighbours < fewest:
        raise UsageError("neighbours out of range", given=neighbours, allowed=f"1 to {fewest - 1}")
    return _covered(x, y, neighbours, batch), _covered(y, x, neighbours, batch)


def _covered(centres: Float64, points: Float64, k: int, batch: int) -> float:
    """Fraction of the points that lie in the ball around one of the centres."""
    from sklearn.metrics import pairwise_distances_chunked
    from sklearn.neighbors import NearestNeighbors

    # each point is its own nearest neighbour, so the k-th other one is the last of k + 1
    radii = NearestNeighbors(n_neighbors=k + 1).fit(centres).kneighbors(centres)[0][:, -1]
    memory = batch * len(centres) * 8 / 2**20
    chunks = pairwise_distances_chunked(
        points, centres, reduce_func=lambda d, _: (d <= radii).any(axis=1), working_memory=memory
    )
    return float(np.concatenate(list(chunks)).mean())


def too_few(count: int, width: int) -> str | None:
    """The warning for an FID of too few images, or None from 10 images per feature on."""
    if count >= 10 * width:
        return None
    return (
        f"FID of {count:,} images on {width:,} features: its bias is considerable below "
        f"{10 * width:,}; compare it only with values computed from as many images"
    )


def _standard_deviation(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise RecordError(f"{name} is not finite", todo="check the features it was computed from")
    return value


def _checked(features: Features) -> Float64:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise UsageError(
            "features of too few images", given=x.shape, allowed="(n, d) with n 2 or more"
        )
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise RecordError(f"the features of image {row} are not finite")
    return x


def _pair(real: Features, generated: Features) -> tuple[Float64, Float64]:
    x, y = _checked(real), _checked(generated)
    if x.shape[1] != y.shape[1]:
        raise UsageError("features of different widths", given=(x.shape[1], y.shape[1]))
    return x, y
