"""Search protocol, the interface of every ``--search`` value, and the bases of its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from diffcls.diffusion.draws import nested_order
from diffcls.search.error_table import Table, ranking
from diffcls.support.errors import UsageError
from diffcls.support.types import Int64

if TYPE_CHECKING:
    from diffcls.search.screening import Screen


class Search(Protocol):
    """Adaptive allocation of evaluations to classes, a form of best-arm identification.

    A search is a frozen dataclass whose fields are its options. It holds no state of an image: each
    request follows from the error table alone.
    """

    @property
    def screen(self) -> Screen | None:
        """The screen that shortens the list of classes beforehand; None: all classes compete."""

    def plan(self, length: int) -> Int64:
        """(N,) schedule index of each draw, for a schedule of `length` timesteps."""

    def ask(self, errors: Table) -> Int64 | None:
        """(M, 2) pairs (class, draw) to evaluate next, or None when the search is finished.

        Args:
            errors: (K, N) of the competing classes, NaN where not evaluated; all pairs requested
                earlier are evaluated.
        """

    def rank(self, errors: Table) -> Int64:
        """(K,) class indices, best first."""


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
