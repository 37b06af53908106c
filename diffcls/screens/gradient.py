"""All classes at once: the slope of the error at a mean prompt says how good each class would be.

    e(c_k) ≈ e(c̄) + ⟨∂e/∂c at c̄, c_k − c̄⟩

One forward and one backward pass at c̄, the mean embedding of the classes still in question, give
this first-order error of every class. The better part of them has a mean closer by, at which the
same is done again, on further draws: so the expansion need never be good over all classes, only
over those that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.denoiser import Conditioning
from diffcls.errors import UsageError
from diffcls.prompts import PromptSet
from diffcls.screens.screen import (
    SLOPE_EVALUATIONS,
    Begin,
    Float64,
    Look,
    Narrowing,
    Screened,
    last_differences,
)


@dataclass(frozen=True)
class Gradient(Screened):
    """Rounds of first-order errors, then a race; see the module.

    Args:
        round_draws: draws of a round, each of three evaluations; no more than `draws` are made.
        shrink: part of the classes that a round leaves, in (0, 1); `candidates` at least.
    """

    round_draws: int = 2
    shrink: float = 1 / 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.round_draws < 1:
            raise UsageError(
                "round draws out of range", given=self.round_draws, allowed="1 or more"
            )
        if not 0 < self.shrink < 1:
            raise UsageError("shrink out of range", given=self.shrink, allowed="(0, 1)")

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> Begin:
        from diffcls.screens.points import embeddings

        embeddings(cond)  # refuses prompts without any
        return lambda open_image: Rounds(self, prompts.n_classes)

    def most_before(self, classes: int) -> tuple[int, int]:
        cost, left = 0, classes
        while left > self.candidates:
            cost, left = cost + SLOPE_EVALUATIONS * self.draws_a_round, self.keep(left)
        return cost, left

    @property
    def draws_a_round(self) -> int:
        """Different draws that a round makes."""
        return min(self.round_draws, self.draws)

    def keep(self, classes: int) -> int:
        """Classes that a round leaves of so many."""
        return max(self.candidates, min(classes - 1, int(np.ceil(self.shrink * classes))))


class Rounds(Narrowing):
    """One image's rounds; a round goes on to draws that no earlier one has seen."""

    def __init__(self, options: Gradient, classes: int) -> None:
        self.options = options
        self.alive = np.arange(classes, dtype=np.int64)
        self._asked = 0
        self._seen: list[Float64] = []  # (K,) first-order errors of each round, NaN outside it

    def ask(self) -> list[Look] | None:
        if len(self.alive) <= self.options.candidates:
            return None
        first = self._asked
        self._asked += self.options.draws_a_round
        # draws beyond the race's own begin anew
        draws = [draw % self.options.draws for draw in range(first, self._asked)]
        return [Look(tuple(self.alive.tolist()), draw, slopes=True) for draw in draws]

    def tell(self, shown: Sequence[NDArray[np.floating]]) -> None:
        errors: Float64 = np.stack(shown).mean(axis=0, dtype=np.float64)
        self._seen.append(np.full(len(errors), np.nan))
        self._seen[-1][self.alive] = errors[self.alive]
        order = self.alive[np.argsort(errors[self.alive], kind="stable")]
        self.alive = np.sort(order[: self.options.keep(len(self.alive))])

    def behind(self, leader: int) -> Float64:
        return last_differences(self._seen, self.alive, leader)
