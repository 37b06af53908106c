"""Error table of one image: statistics, scores and ranking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffcls.support.types import Float64, Int64

Table = NDArray[np.float32]
"""(K, N) error of each class on each draw, NaN where not evaluated."""


def counts(errors: Table) -> Int64:
    """(K,) number of evaluated draws of each class."""
    return (~np.isnan(errors)).sum(axis=1).astype(np.int64)


def means(errors: Table) -> Float64:
    """(K,) mean error over the evaluated draws, in float64; infinite for a class without any."""
    evaluated = ~np.isnan(errors)
    n = evaluated.sum(axis=1)
    total = np.where(evaluated, errors, 0.0).sum(axis=1, dtype=np.float64)
    return np.where(n > 0, total / np.maximum(n, 1), np.inf)


def leader(errors: Table) -> int:
    """The class of the lowest mean error among those with the most draws."""
    n = counts(errors)
    return int(np.argmin(np.where(n == n.max(), means(errors), np.inf)))


def paired(errors: Table, reference: int) -> Float64:
    """(K,) mean of e_k − e_reference over their common draws; infinite without any."""
    d = errors.astype(np.float64) - errors[reference].astype(np.float64)
    shared = ~np.isnan(d)
    n = shared.sum(axis=1)
    total = np.where(shared, d, 0.0).sum(axis=1)
    return np.where(n > 0, total / np.maximum(n, 1), np.inf)


def scores(errors: Table) -> Float64:
    """(K,) minus the mean error; a class dropped early keeps its paired difference to the leader.

    A dropped class stays behind the leader, even if its mean over their few common draws is now
    lower. A class without any draw scores minus infinity.
    """
    best = leader(errors)
    top = -means(errors)[best]
    result = np.minimum(top - paired(errors, best), np.nextafter(top, -np.inf))
    result[best] = top
    return result


def ranking(errors: Table) -> Int64:
    """(K,) class indices by descending score; ties keep the order of classes."""
    return np.argsort(-scores(errors), kind="stable").astype(np.int64)


def pairs(classes: NDArray[np.int64], draws: NDArray[np.int64]) -> Int64:
    """(M, 2) every class with every draw, draw by draw."""
    grid = np.stack(np.meshgrid(classes, draws, indexing="xy"), axis=-1)
    return grid.reshape(-1, 2).astype(np.int64)
