"""Search protocol: the interface of every ``--search`` value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from diffcls.search.error_table import Table
    from diffcls.search.screening import Screen
    from diffcls.support.types import Int64


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
