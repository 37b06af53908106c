"""Successive halving (Karnin et al. 2013): drop the worse half, double the others' draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffcls.search.error_table import Table, counts, means, pairs
from diffcls.search.unscreened import NestedSearch, check_draws
from diffcls.support.errors import UsageError
from diffcls.support.types import Int64


@dataclass(frozen=True)
class Halving(NestedSearch):
    """Successive halving: after each round keep the better half and double its draws.

    Args:
        draws: N, draws of a class that survives all rounds.
        start: draws of every class in the first round, or N if that is fewer.
    """

    draws: int = 100
    start: int = 4

    def __post_init__(self) -> None:
        check_draws(self.draws)
        if not 1 <= self.start:
            raise UsageError("start out of range", given=self.start, allowed="1 or more")

    def ask(self, errors: Table) -> Int64 | None:
        n = counts(errors)
        done = int(n.max())
        alive = np.flatnonzero(n == done)
        if done == 0:
            return pairs(alive, np.arange(min(self.start, errors.shape[1])))
        keep = (len(alive) + 1) // 2
        if len(alive) == 1 or done == errors.shape[1]:
            return None
        order = np.argsort(means(errors)[alive], kind="stable")
        alive = np.sort(alive[order[:keep]])
        if len(alive) == 1:
            return None
        return pairs(alive, np.arange(done, min(2 * done, errors.shape[1])))
