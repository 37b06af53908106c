"""Aggregation of an image's draws into one answer: by mean, rank or majority vote.

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


VOTES: Mapping[str, Callable[[Table], Table]] = {"mean": mean, "rank": rank, "majority": majority}
