"""One image being scored: what it asks for next, what it has been told, and its answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffcls.data.prompts import PromptSet
from diffcls.scoring.class_scores import ClassScores
from diffcls.search.aggregation import VOTES
from diffcls.search.error_table import Search, Table, leader, means, scores
from diffcls.search.screening import Look, Narrowing

Request = tuple["InFlight", int, int]
"""(image, prompt, draw)."""
Pairs = NDArray[np.int64]
"""(M, 2) prompt and draw, of one image: what waits takes little room."""
NOTHING: Pairs = np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class Question:
    """What all images of a run are asked.

    Args:
        prompts: the candidate classes.
        search: which (class, draw) pairs to evaluate.
        vote: how the draws come to one answer, see `diffcls.search.aggregation`.
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

    def pairs_of(self, rows: NDArray[np.int64], draws: NDArray[np.int64]) -> Pairs:
        """(M', 2) the prompts of rows (M,) of the table that the search sees, each on its draw."""
        if self.prompts_race:
            return np.stack([rows, draws], axis=1)
        prompts = [self.prompts.rows_of(row) for row in rows.tolist()]
        each = np.repeat(draws, [len(some) for some in prompts])
        flat = np.fromiter(chain.from_iterable(prompts), np.int64, len(each))
        return np.stack([flat, each], axis=1)


@dataclass
class InFlight:
    """An image, its table of prompt errors, and what is still out.

    Args:
        image_id, candidates: of the image.
        x0: (C, h, w) its latent.
        shape: of its table, (P, N), or (P + 1, N) with the empty prompt's row last.
        question: what it is asked.
        narrowing: of a search with a screen: the image's way to a few classes.
        seconds: its share of the time so far.
        foreseen: (prompt, draw) -> error of what nobody has asked for yet; see `likely_next`.
    """

    image_id: str
    candidates: tuple[int, ...]
    x0: Tensor
    shape: tuple[int, int]
    question: Question
    narrowing: Narrowing | None = None
    seconds: float = 0.0
    waiting: int = 0
    evaluations: int = 0
    error: str | None = None
    shown: list[NDArray[np.floating] | None] = field(default_factory=list)
    foreseen: dict[tuple[int, int], float] = field(default_factory=dict)
    _wanted: NDArray[np.int64] | None = field(default=None, init=False, repr=False)

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """Errors, NaN where not evaluated; made on first use: an image that waits needs none."""
        return np.full(self.shape, np.nan, np.float32)

    def ask(self) -> tuple[Pairs, list[tuple[InFlight, int, Look]]]:
        """What is wanted next: evaluations, or looks (image, place in `shown`, look); or neither.

        Every earlier request has been answered. What was foreseen goes into the table at once, and
        on it goes from there.
        """
        if self.narrowing is not None:
            self._tell()
            looks = self.narrowing.ask()
            if looks:
                self.shown = [None] * len(looks)
                self.waiting = len(looks)
                return NOTHING, [(self, place, look) for place, look in enumerate(looks)]
        wanted = self._evaluations()
        while self.foreseen and len(wanted):
            unknown = wanted[[not self._take_foreseen(*pair) for pair in wanted.tolist()]]
            if len(unknown):
                wanted = unknown
                break
            wanted = self._evaluations()
        self.waiting = len(wanted)
        return wanted, []

    def likely_next(self) -> Iterator[list[Request]]:
        """What will be asked for next if no class is dropped: the same rows, draw after draw.

        For rows of a batch that would only fill it up: such errors are kept in `foreseen`, and
        count once they are asked for.
        """
        if self._wanted is None:
            return
        last = int(self._wanted[:, 1].max())
        rows = np.unique(self._wanted[:, 0])
        for draw in range(last + 1, self.shape[1]):
            pairs = self._pairs(rows, np.full(len(rows), draw)).tolist()
            yield [(self, *pair) for pair in pairs if tuple(pair) not in self.foreseen]

    def _take_foreseen(self, prompt: int, draw: int) -> bool:
        """Record what was foreseen, as an evaluation like any other; whether it was, and finite."""
        error = self.foreseen.pop((prompt, draw), math.nan)
        if not math.isfinite(error):
            return False
        self.record(prompt, draw, error)
        return True

    def record(self, prompt: int, draw: int, error: float) -> None:
        """Write an error that was asked for into the table."""
        self.table[prompt, draw] = error
        self.evaluations += 1

    def _tell(self) -> None:
        """Hand the answers to the last looks over."""
        if self.shown:
            assert self.narrowing is not None
            self.narrowing.tell([value for value in self.shown if value is not None])
            self.shown = []

    def _evaluations(self) -> Pairs:
        self._wanted = self.question.search.ask(self.seen())
        if self._wanted is None:
            return self._empty_prompt()
        return self._pairs(*self._wanted.T)

    def _pairs(self, rows: NDArray[np.int64], draws: NDArray[np.int64]) -> Pairs:
        """Prompts and draws of rows of the table that the search sees."""
        if self.narrowing is not None:
            rows = self.narrowing.alive[rows]
        elif self.candidates:
            rows = np.array(self.candidates)[rows]
        return self.question.pairs_of(rows, draws)

    def _empty_prompt(self) -> Pairs:
        """The draws of the leader that the empty prompt, where there is one, still lacks."""
        if not self.candidates:
            return NOTHING
        table = self.seen()
        missing = np.isnan(self.table[-1]) & ~np.isnan(table[leader(table)])
        draws = np.flatnonzero(missing)
        return np.stack([np.full(len(draws), len(self.question.prompts)), draws], axis=1)

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
