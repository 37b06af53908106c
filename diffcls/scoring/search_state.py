"""States of the search on one image while it runs: scores so far, classes that compete, cost.

They are derived from the image's error table, so that following a search changes nothing in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffcls.scoring.class_scores import ClassScores
from diffcls.scoring.final_scores import with_screened_out
from diffcls.scoring.image_state import ImageState
from diffcls.scoring.next_requests import class_table, search_table
from diffcls.search.aggregation import VOTES
from diffcls.search.base import Search
from diffcls.search.error_table import Table, counts, leader, scores
from diffcls.support.types import Int64

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class SearchState:
    """State of the search on one image.

    Args:
        scores: (K,) as in `ClassScores`; zeros before the first draw of all classes is evaluated.
        ranking: (K,) class indices, best first.
        draws: (K,) evaluated draws of each class; 0 for a class that a screen dropped.
        alive: (K,) whether a class still competes. At the end: whether no evidence separates it
            from the best class, which is alive always.
        evaluations: forward passes so far, as in `ClassScores`.
        seconds: time so far.
        finished: whether the search is finished.
    """

    scores: NDArray[np.float64]
    ranking: Int64
    draws: Int64
    alive: NDArray[np.bool_]
    evaluations: int
    seconds: float
    finished: bool = False


class SearchProgress:
    """Follows the search on one image: a state per draw, and one per batch within a draw."""

    def __init__(self) -> None:
        self._draws = -1
        self._evaluations = 0

    def states(self, image: ImageState) -> Iterator[SearchState]:
        """The states since the last call; none if nothing was evaluated."""
        table = search_table(image)
        done = _complete_draws(image, table)
        yield from self._until(image, table, done + 1)
        if image.evaluations > self._evaluations:
            self._evaluations = image.evaluations
            yield self._state(image, table, done)

    def last(self, image: ImageState, result: ClassScores) -> Iterator[SearchState]:
        """The states since the last call, the last of which holds the result of the image."""
        table = search_table(image)
        done = _complete_draws(image, table)
        yield from self._until(image, table, done)
        yield dataclasses.replace(
            self._state(image, table, done),
            scores=result.scores,
            ranking=result.ranking,
            evaluations=result.evaluations,
            seconds=result.seconds,
            finished=True,
        )

    def _until(self, image: ImageState, table: Table, end: int) -> Iterator[SearchState]:
        for draws in range(self._draws + 1, end):
            # evaluations of later draws, made in the same batch, count with their own draw
            later = int((~np.isnan(image.table[:, draws:])).sum())
            self._draws = draws
            self._evaluations = max(self._evaluations, image.evaluations - later)
            yield self._state(image, table, draws)

    def _state(self, image: ImageState, table: Table, draws: int) -> SearchState:
        """The state after the first draws, as the search saw it then."""
        seen = table.copy()
        seen[:, draws:] = np.nan
        competing = _competing(image, table, draws)
        alive = _of_classes(image, competing)
        row_scores, ranking = _scores(image, seen, alive)
        return SearchState(
            row_scores,
            ranking,
            _of_classes(image, counts(seen)),
            alive,
            self._evaluations,
            image.seconds,
        )


def survivors(search: Search, table: Table) -> Int64:
    """Rows of a table that no evidence separates from the best one, when the search has ended.

    A search that ends before its last draw has dropped all rows but one, unless its budget of
    evaluations was spent.
    """
    if getattr(search, "budget", None) is not None:
        unlimited: Any = search
        requested = dataclasses.replace(unlimited, budget=None).ask(table)
        if requested is not None:
            return np.unique(requested[:, 0])
    n = counts(table)
    if n.max() < table.shape[1]:
        return np.array([leader(table)])
    return np.flatnonzero(n == n.max()).astype(np.int64)


def _complete_draws(image: ImageState, table: Table) -> int:
    """Number of draws that are evaluated for all classes that the search requested."""
    if image.requested is not None:
        rows, draws = image.requested.T
        missing = np.isnan(table[rows, draws])
        if missing.any():
            return int(draws[missing].min())
    return int((~np.isnan(table)).any(axis=0).sum())


def _competing(image: ImageState, table: Table, draws: int) -> NDArray[np.bool_]:
    """(S,) whether each row of the search's table competes after the first draws."""
    rows = np.arange(len(table))
    if draws == 0:
        return np.ones(len(table), dtype=bool)
    if draws < _complete_draws(image, table):
        return ~np.isnan(table[:, draws])
    if image.requested is not None:
        return np.isin(rows, image.requested[image.requested[:, 1] >= draws, 0])
    return np.isin(rows, survivors(image.task.search, table))


def _scores(
    image: ImageState, seen: Table, alive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], Int64]:
    """(K,) scores and ranking of the classes from the draws seen; all zero without any."""
    if np.isnan(seen).all():
        return np.zeros(len(alive)), np.argsort(~alive, kind="stable").astype(np.int64)
    row_scores, ranking = scores(seen), image.task.search.rank(seen)
    if image.screening is None:
        return row_scores, ranking
    in_errors = image.task.aggregate is VOTES["mean"]
    return with_screened_out(image.screening, row_scores, ranking, in_errors)


def _of_classes(image: ImageState, values: NDArray[Scalar]) -> NDArray[Scalar]:
    """(K,) values of the classes from those of the rows of a shortlist; zero outside it."""
    if image.screening is None:
        return values
    of_classes = np.zeros(len(class_table(image)), values.dtype)
    of_classes[image.screening.shortlist] = values
    return of_classes
