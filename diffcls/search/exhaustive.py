"""Exhaustive search: every class on every draw, the reference for all other searches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffcls.diffusion.draws import nested_order
from diffcls.search.error_table import Table, counts, pairs, ranking
from diffcls.support.errors import UsageError
from diffcls.support.types import Int64


@dataclass(frozen=True)
class Exhaustive:
    """All K · N evaluations.

    Args:
        draws: N, draws per class.
    """

    draws: int = 100

    def __post_init__(self) -> None:
        check_draws(self.draws)

    @property
    def screen(self) -> None:
        return None

    def plan(self, length: int) -> Int64:
        return nested_order(length, self.draws)

    def ask(self, errors: Table) -> Int64 | None:
        if counts(errors).min() == errors.shape[1]:
            return None
        return pairs(np.arange(errors.shape[0]), np.arange(errors.shape[1]))

    def rank(self, errors: Table) -> Int64:
        return ranking(errors)


def check_draws(draws: int) -> None:
    """Raise UsageError unless `draws` is an integer from 1 to 100,000."""
    if not (isinstance(draws, int) and 1 <= draws <= 100_000):
        raise UsageError("draws out of range", given=draws, allowed="1 to 100000")
