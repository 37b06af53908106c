"""One image being scored: what it asks for next, what it has been told, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffcls.method import ClassScores
from diffcls.prompts import PromptSet
from diffcls.screens.screen import Look, Narrowing
from diffcls.search.table import Search, Table, leader, means, scores
from diffcls.search.votes import VOTES

Request = tuple["InFlight", int, int]
"""(image, prompt, draw)."""


@dataclass(frozen=True)
class Question:
    """What all images of a run are asked.

    Args:
        prompts: the candidate classes.
        search: which (class, draw) pairs to evaluate.
        vote: how the draws come to one answer, see `diffcls.search.votes`.
        prompts_race: whether rows of the table are prompts, else classes.
        subtract_empty: whether the empty prompt's error is taken off all scores.
        keep_errors: whether the error table goes out with the answer.
    """

    prompts: PromptSet
    search: Search
    vote: Callable[[Table], Table]
    prompts_race: bool
    subtract_empty: bool
    keep_errors: bool

    def rows_of(self, row: int) -> list[int]:
        """The prompts to evaluate for a row of the table that the search sees."""
        return [row] if self.prompts_race else self.prompts.rows_of(row)


@dataclass
class InFlight:
    """An image, its table of prompt errors, and what is still out.

    Args:
        image_id, candidates: of the image.
        x0: (C, h, w) its latent.
        table: (P, N), or (P + 1, N) with the empty prompt's row last; NaN where not evaluated.
        question: what it is asked.
        narrowing: of a search with a screen: the image's way to a few classes.
        seconds: its share of the time so far.
    """

    image_id: str
    candidates: tuple[int, ...]
    x0: Tensor
    table: NDArray[np.float32]
    question: Question
    narrowing: Narrowing | None = None
    seconds: float = 0.0
    waiting: int = 0
    evaluations: int = 0
    error: str | None = None
    shown: list[NDArray[np.floating] | None] = field(default_factory=list)

    def ask(self) -> tuple[list[Request], list[tuple[InFlight, int, Look]]]:
        """What is wanted next: evaluations, or looks (image, place in `shown`, look); or neither.

        Every earlier request has been answered.
        """
        if self.narrowing is not None:
            self._tell()
            looks = self.narrowing.ask()
            if looks:
                self.shown = [None] * len(looks)
                self.waiting = len(looks)
                return [], [(self, place, look) for place, look in enumerate(looks)]
        requests = self._evaluations()
        self.waiting = len(requests)
        return requests, []

    def _tell(self) -> None:
        """Hand the answers to the last looks over."""
        if self.shown:
            assert self.narrowing is not None
            self.narrowing.tell([value for value in self.shown if value is not None])
            self.shown = []

    def _evaluations(self) -> list[Request]:
        wanted = self.question.search.ask(self.seen())
        if wanted is None:
            return self._empty_prompt()
        rows = self._rows()
        return [
            (self, prompt, draw)
            for row, draw in wanted.tolist()
            for prompt in self.question.rows_of(int(rows[row]))
        ]

    def _rows(self) -> Sequence[int] | NDArray[np.int64]:
        """The class, or the prompt, of each row of the table that the search sees."""
        if self.narrowing is not None:
            return self.narrowing.alive
        return self.candidates or range(len(self.table))

    def _empty_prompt(self) -> list[Request]:
        """The draws of the leader that the empty prompt, where there is one, still lacks."""
        if not self.candidates:
            return []
        table = self.seen()
        missing = np.isnan(self.table[-1]) & ~np.isnan(table[leader(table)])
        empty = len(self.question.prompts)
        return [(self, empty, int(draw)) for draw in np.flatnonzero(missing)]

    def seen(self) -> NDArray[np.float32]:
        """The table that the search works on: a row a class, or a row a prompt where these race."""
        table = self.table if self.question.prompts_race else self.of_classes()
        if self.narrowing is not None:
            table = table[self.narrowing.alive]
        return self.question.vote(table)

    def of_classes(self) -> NDArray[np.float32]:
        """(K, N) errors of the classes that the image was asked about."""
        prompts = self.question.prompts
        table = prompts.average(self.table[: len(prompts)])
        return table[list(self.candidates)] if self.candidates else table

    def answer(self) -> ClassScores:
        """Scores and ranking, once nothing more is wanted."""
        if self.error is not None:  # a value that is not finite takes no part in a comparison
            return ClassScores.failed(self.image_id, self.error, self.seconds)
        table = self.seen()
        of_row, ranking = scores(table), self.question.search.rank(table)
        if self.narrowing is not None:
            in_errors = self.question.vote is VOTES["mean"]
            of_row, ranking = _with_screened_out(self.narrowing, of_row, ranking, in_errors)
        if self.question.prompts_race:
            of_row, ranking = _best_prompts(self.question.prompts, of_row, ranking)
        if self.question.subtract_empty:
            of_row = of_row + float(means(self.table[-1:])[0])
        return ClassScores(
            self.image_id,
            of_row,
            ranking,
            self.evaluations,
            self.seconds,
            errors=self.of_classes() if self.question.keep_errors else None,
            raced=None if self.narrowing is None else self.narrowing.alive,
        )


def _with_screened_out(
    narrowing: Narrowing,
    of_row: NDArray[np.float64],
    ranking: NDArray[np.int64],
    in_errors: bool,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(K,) scores and ranking of all classes, from those of the classes that raced.

    Args:
        narrowing: the screen, done.
        of_row, ranking: (S,) of the classes that raced.
        in_errors: whether scores are errors: then a class that was screened out is as far behind
            the leader as it was in the screen, else behind all that raced.
    """
    alive = narrowing.alive
    best = int(ranking[0])
    top = of_row[best] if in_errors else of_row.min()
    of_class = top - narrowing.behind(int(alive[best]))
    of_class = np.minimum(of_class, np.nextafter(top, -np.inf))
    of_class[alive] = of_row
    # the race's own order first wherever scores tell two of its classes apart no more
    place = np.full(len(of_class), len(alive))
    place[alive[ranking]] = np.arange(len(alive))
    return of_class, np.lexsort((place, -of_class)).astype(np.int64)


def _best_prompts(
    prompts: PromptSet, of_row: NDArray[np.float64], ranking: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(K,) scores and ranking of classes, each that of its best prompt."""
    of_class = np.array(prompts.class_of)
    best = np.full(prompts.n_classes, -np.inf)
    np.maximum.at(best, of_class, of_row)
    return best, np.array(list(dict.fromkeys(of_class[ranking].tolist())))
