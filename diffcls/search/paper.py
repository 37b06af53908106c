"""Staged elimination as published (Li et al. 2023, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffcls.diffusion.draws import published_order
from diffcls.search.error_table import Table, counts, means, pairs
from diffcls.search.unscreened import UnscreenedSearch
from diffcls.support.errors import UsageError
from diffcls.support.types import Int64


@dataclass(frozen=True)
class Paper(UnscreenedSearch):
    """Stage i gives every surviving class its samples, then keeps the `keep[i]` best.

    Args:
        samples: (S,) samples per class after each stage, as in the published ``--n_samples``.
        keep: (S,) classes kept after each stage, as in ``--to_keep``; the last is 1.
        trials: noise samples per timestep, as in ``--n_trials``; evaluations grow by that factor.

    Raises:
        UsageError: if the lists differ in length, `samples` decreases, `keep` increases or does
            not end at 1, or `trials` is below 1.
    """

    samples: tuple[int, ...] = (50, 500)
    keep: tuple[int, ...] = (5, 1)
    trials: int = 1

    def __post_init__(self) -> None:
        falling = all(a >= b for a, b in zip(self.keep, self.keep[1:], strict=False))
        if len(self.samples) != len(self.keep) or not falling or self.keep[-1:] != (1,):
            raise UsageError(
                "stages do not match",
                given={"n_samples": list(self.samples), "to_keep": list(self.keep)},
                allowed="two lists of equal length, the classes kept decreasing to 1",
            )
        if self.trials < 1:
            raise UsageError("trials out of range", given=self.trials, allowed="1 or more")
        self._ends()  # raises for decreasing or missing samples

    def plan(self, length: int) -> Int64:
        return published_order(length, self.samples)[0].repeat(self.trials)

    def ask(self, errors: Table) -> Int64 | None:
        ends = self._ends()
        n = counts(errors)
        done = int(n.max())
        alive = np.flatnonzero(n == done)
        if done == 0:
            return pairs(alive, np.arange(ends[0]))
        stage = int(np.searchsorted(ends, done, side="right")) - 1
        if stage + 1 == len(ends):
            return None
        order = np.argsort(means(errors)[alive], kind="stable")
        alive = np.sort(alive[order[: self.keep[stage]]])
        return pairs(alive, np.arange(done, ends[stage + 1]))

    def _ends(self) -> Int64:
        # the ends depend on the grid's step only through N, the last stage's samples
        return published_order(max(self.samples), self.samples)[1] * self.trials
