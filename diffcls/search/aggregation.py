"""Aggregation of an image's draws into one answer: by mean, logarithm, rank or majority vote.

Each function maps an error table to another one, which is then averaged over draws, so every search
runs with every aggregation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from diffcls.search.error_table import Table


def mean(errors: Table) -> Table:
    """The errors themselves: the lowest mean error wins, as published."""
    return errors


def log(errors: Table) -> Table:
    """(K, N) logarithms of the errors: what is left of the errors' ratio to any baseline.

        Σ_j log(e_kj / b_j) = Σ_j log e_kj − Σ_j log b_j

    The second sum is the same for all classes, so the ratio to the empty prompt's error, or to the
    mean over classes, ranks them as log e_kj alone does, without its evaluations. If the residual
    of d dimensions at draw j is Gaussian of unknown variance, −(d/2)·Σ_j log e_kj is the
    log-likelihood with the variance of each class and draw at its maximum (Box and Cox 1964,
    section 3). A factor common to all classes, such as a weighting over time, changes nothing.
    """
    # an error of 0 would be infinitely good
    return np.log(np.maximum(errors, np.finfo(np.float32).tiny)).astype(np.float32)


def rank(errors: Table) -> Table:
    """(K, N) rank of each class within a draw, 0 the best; equal errors share their mean rank.

    Draws of large errors have no more weight than others (Friedman 1937).
    """
    evaluated = ~np.isnan(errors)
    filled = np.where(evaluated, errors, np.inf)
    below = (filled[None] < filled[:, None]).sum(axis=1)
    equal = ((filled[None] == filled[:, None]) & evaluated[None]).sum(axis=1)
    return np.where(evaluated, below + (equal - 1) / 2, np.nan).astype(np.float32)


def majority(errors: Table) -> Table:
    """(K, N) 0 for the best class of a draw, 1 for the others; classes that tie share the vote."""
    evaluated = ~np.isnan(errors)
    filled = np.where(evaluated, errors, np.inf)
    best = (filled == filled.min(axis=0)) & evaluated
    share = best / np.maximum(best.sum(axis=0), 1)
    return np.where(evaluated, 1.0 - share, np.nan).astype(np.float32)


VOTES: Mapping[str, Callable[[Table], Table]] = {
    "mean": mean,
    "log": log,
    "rank": rank,
    "majority": majority,
}
