"""How the draws of an image come to one answer: by their mean, their ranks, or a vote.

Each turns an error table into another one, of which the mean is taken as ever: so every search can
run on any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from diffcls.search.error_table import Table


def mean(errors: Table) -> Table:
    """The errors themselves: the expected error decides, as published."""
    return errors


def rank(errors: Table) -> Table:
    """(K, N) rank of each class within a draw, 0 the best; equal errors share their mean rank.

    A draw of large errors weighs no more than any other then (Friedman 1937).
    """
    seen = ~np.isnan(errors)
    filled = np.where(seen, errors, np.inf)
    below = (filled[None] < filled[:, None]).sum(axis=1)
    equal = ((filled[None] == filled[:, None]) & seen[None]).sum(axis=1)
    return np.where(seen, below + (equal - 1) / 2, np.nan).astype(np.float32)


def majority(errors: Table) -> Table:
    """(K, N) 0 for the best class of a draw, 1 for the others; equal best ones share."""
    seen = ~np.isnan(errors)
    filled = np.where(seen, errors, np.inf)
    best = (filled == filled.min(axis=0)) & seen
    share = best / np.maximum(best.sum(axis=0), 1)
    return np.where(seen, 1.0 - share, np.nan).astype(np.float32)


VOTES: Mapping[str, Callable[[Table], Table]] = {"mean": mean, "rank": rank, "majority": majority}
