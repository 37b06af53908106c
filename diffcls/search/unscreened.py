"""Bases of searches without a screen: ranking by scores, and draws in nested order."""

from __future__ import annotations

from diffcls.diffusion.draws import nested_order
from diffcls.search.error_table import Table, ranking
from diffcls.support.errors import UsageError
from diffcls.support.types import Int64


class UnscreenedSearch:
    """Base of searches without a screen: all classes compete, and rank by their scores."""

    @property
    def screen(self) -> None:
        return None

    def rank(self, errors: Table) -> Int64:
        return ranking(errors)


class NestedSearch(UnscreenedSearch):
    """Base of searches whose draws are in nested order: any prefix of them covers time evenly.

    Attributes:
        draws: N, maximum draws per class.
    """

    draws: int

    def plan(self, length: int) -> Int64:
        return nested_order(length, self.draws)


def check_draws(draws: int) -> None:
    """Raise UsageError unless `draws` is an integer from 1 to 100,000."""
    if not (isinstance(draws, int) and 1 <= draws <= 100_000):
        raise UsageError("draws out of range", given=draws, allowed="1 to 100000")
