"""How far drawn images are from real ones, on features: FID, KID, IS, precision and recall.

All are functions of feature arrays (n, d), so the same features serve all of them, whoever
extracted them. Everything is computed in float64; a value that is not finite is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.support.errors import RecordError, UsageError
from diffcls.support.types import Float64

Features = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class Statistics:
    """Mean and covariance of features: all that FID wants to know.

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
        """The statistics of (n, d) features.

        Raises:
            UsageError: for fewer than two images.
            RecordError: for features that are not finite.
        """
        x = _checked(features)
        return cls(x.mean(axis=0), np.atleast_2d(np.cov(x, rowvar=False)), len(x))


def fid(real: Statistics, drawn: Statistics) -> float:
    """Fréchet distance of two Gaussians (Heusel et al. 2017, eq. 6; Dowson and Landau 1982).

        ‖μ − μ′‖² + tr(Σ + Σ′ − 2·(ΣΣ′)^½)

    The trace of the root is the sum of the roots of the eigenvalues of ΣΣ′, which are real and not
    negative; what rounding makes of them is taken back.
    """
    from scipy.linalg import eigvals

    gap = float(((real.mean - drawn.mean) ** 2).sum())
    roots = np.sqrt(np.maximum(eigvals(real.covariance @ drawn.covariance).real, 0.0))
    value = gap + float(np.trace(real.covariance) + np.trace(drawn.covariance) - 2 * roots.sum())
    # the distance of a set from itself is 0, which rounding may leave below
    return _finite("FID", max(value, 0.0))


@dataclass(frozen=True)
class Estimate:
    """A value, and its standard error over subsets or parts; NaN where there is only one."""

    value: float
    stderr: float


def kid(
    real: Features,
    drawn: Features,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
    classes: tuple[Labels, Labels] | None = None,
) -> Estimate:
    """Kernel distance: squared MMD with k(x, y) = (x·y/d + 1)³ (Bińkowski et al. 2018, section 4).

        Σ_{i≠j} k(x_i, x_j)/(m(m−1)) + Σ_{i≠j} k(y_i, y_j)/(m(m−1)) − 2·Σ k(x_i, y_j)/m²

    Unbiased, so it may be negative. The mean over `subsets` random subsets of `size` images; where
    a set has no more than `size`, all of it, once.

    Args:
        real, drawn: (n, d) and (n′, d).
        subsets, size: see above.
        seed: of the subsets.
        classes: (n,) and (n′,) of sets with as many images of each class on purpose: in such a set
            two images are of one class more seldom than of independent ones, and the estimate
            would fall below 0. Then each subset takes as many of a class as chance would.

    Returns:
        the mean, and its standard error as an estimate about all images that there could be.
        Subsets of m of the n images of the smaller set share images, so their spread s over
        √subsets would vanish with their number. s²·m/(n − m) is the variance of the whole (the
        jackknife that leaves out n − m; Shao and Wu 1989), s²/subsets that of looking at so many.
        It is too wide where nothing sets the two apart; NaN where a set is taken whole.

    Raises:
        UsageError: for a size below two, or features of different widths.
        RecordError: for features that are not finite.
    """
    x, y = _pair(real, drawn)
    if size < 2 or subsets < 1:
        raise UsageError("KID of too little", given=(subsets, size), allowed="1 or more, 2 or more")
    size = min(size, len(x), len(y))
    if classes is None and size == max(len(x), len(y)):
        subsets = 1  # they would all be the same
    rng = np.random.default_rng(seed)
    of_x, of_y = classes or (None, None)
    values = [
        _mmd(x[_subset(len(x), size, of_x, rng)], y[_subset(len(y), size, of_y, rng)])
        for _ in range(subsets)
    ]
    mean, count = _finite("KID", float(np.mean(values))), min(len(x), len(y))
    if size == count:
        return Estimate(mean, math.nan)
    of_one = _spread(values)
    return Estimate(mean, of_one * math.sqrt(size / (count - size) + 1 / len(values)))


def _subset(count: int, size: int, labels: Labels | None, rng: np.random.Generator) -> Labels:
    """Rows of a random subset, see `kid`; of a class that has too few, all of them."""
    if labels is None:
        return rng.choice(count, size, replace=False)
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    wanted = rng.multinomial(size, [len(rows) / count for rows in members])
    return np.concatenate(
        [
            rng.choice(rows, min(n, len(rows)), replace=False)
            for n, rows in zip(wanted, members, strict=True)
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
    """exp(E_x KL(p(y | x) ‖ p(y))) (Salimans et al. 2016, eq. 1), between 1 and K.

    Args:
        logits: (n, K) of a classifier on drawn images.
        splits: parts, in a random order, whose scores are averaged.
        seed: of the order.

    Returns:
        the mean over the parts, and its standard error, spread/√splits.

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
        with np.errstate(divide="ignore"):  # a class that no image has: 0·log 0 = 0
            log_marginal = np.where(marginal > 0, np.log(marginal), 0.0)
        values.append(math.exp(float((p * (part - log_marginal)).sum(axis=1).mean())))
    mean = _finite("IS", float(np.mean(values)))
    return Estimate(mean, _spread(values) / math.sqrt(splits))


def precision_recall(
    real: Features, drawn: Features, neighbours: int = 3, batch: int = 1000
) -> tuple[float, float]:
    """Shares of drawn images within the real ones' manifold, and of real ones within the drawn's.

    A manifold is the union of balls about its points, each as wide as the distance to its k-th
    nearest neighbour (Kynkäänniemi et al. 2019, eq. 1 and 2).

    Args:
        real, drawn: (n, d) and (n′, d), more than k each.
        neighbours: k.
        batch: rows of distances held at a time.

    Raises:
        UsageError: for too few images, or features of different widths.
        RecordError: for features that are not finite.
    """
    x, y = _pair(real, drawn)
    fewest = min(len(x), len(y))
    if not 1 <= neighbours < fewest:
        raise UsageError("neighbours out of range", given=neighbours, allowed=f"1 to {fewest - 1}")
    return _covered(x, y, neighbours, batch), _covered(y, x, neighbours, batch)


def _covered(centres: Float64, points: Float64, k: int, batch: int) -> float:
    """Share of the points that lie in a ball about one of the centres."""
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
    """What to warn of where a covariance of so many images is not to be relied on, or None."""
    if count >= 10 * width:
        return None
    return (
        f"FID of {count:,} images on {width:,} features: its bias is considerable below "
        f"{10 * width:,}; compare it only with figures of as many images"
    )


def _spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise RecordError(f"{name} is not finite", todo="look at the features it was made of")
    return value


def _checked(features: Features) -> Float64:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise UsageError("features of too few images", given=x.shape, allowed="(2 or more, d)")
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise RecordError(f"the features of image {row} are not finite")
    return x


def _pair(real: Features, drawn: Features) -> tuple[Float64, Float64]:
    x, y = _checked(real), _checked(drawn)
    if x.shape[1] != y.shape[1]:
        raise UsageError("features of different widths", given=(x.shape[1], y.shape[1]))
    return x, y
