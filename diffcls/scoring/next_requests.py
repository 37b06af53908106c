"""Next requests of an image: pure functions of its state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from diffcls.scoring.image_state import ImageState, Pairs
from diffcls.search.error_table import Table, leader
from diffcls.support.types import Int64

NO_PAIRS: Pairs = np.empty((0, 2), np.int64)


class NextEvaluations(NamedTuple):
    """Evaluations to make next.

    Args:
        requested: (M, 2) request of the search, rows of its table and draws; None if it is
            finished.
        pairs: (M', 2) the same as prompts and draws, or those of the empty prompt or of the
            decision against the background that are still missing; empty if the image is finished.
    """

    requested: Int64 | None
    pairs: Pairs


def next_evaluations(state: ImageState) -> NextEvaluations:
    """The evaluations that an image without pending requests needs next."""
    requested = state.task.search.ask(search_table(state))
    if requested is None:
        missing = _missing_of_decision if state.task.background else _missing_empty_prompt
        return NextEvaluations(None, missing(state))
    return NextEvaluations(requested, _prompts_of(state, *requested.T))


def likely_next(state: ImageState) -> Iterator[Pairs]:
    """(M, 2) evaluations likely to be requested next, draw after draw, for speculative evaluation.

    If no class is dropped, the search requests the same rows on the following draws. Pairs with a
    speculative result are left out.
    """
    if state.requested is None:
        return
    last = int(state.requested[:, 1].max())
    rows = np.unique(state.requested[:, 0])
    for draw in range(last + 1, state.shape[1]):
        pairs = _prompts_of(state, rows, np.full(len(rows), draw))
        yield pairs[[tuple(pair) not in state.speculative for pair in pairs.tolist()]]


def search_table(state: ImageState) -> Table:
    """The table that the search sees: a row per competing class, or per competing prompt."""
    table = state.table if state.task.prompts_race else class_table(state)
    if state.prior is not None:
        table = (table - state.prior[:, None]).astype(np.float32)
    if state.screening is not None:
        table = table[state.screening.shortlist]
    return state.task.aggregate(table)


def class_table(state: ImageState) -> Table:
    """(K, N) errors of the image's candidate classes: the mean over a class's prompts, or one."""
    prompts, turn = state.task.prompts, state.task.turn
    of_prompts = state.table[: len(prompts)]
    table = prompts.average(of_prompts) if turn is None else prompts.rotated(of_prompts, turn)
    return table[list(state.candidates)] if state.candidates else table


def _prompts_of(state: ImageState, rows: Int64, draws: Int64) -> Pairs:
    """Prompts and draws of rows of the table that the search sees."""
    if state.screening is not None:
        rows = state.screening.shortlist[rows]
    elif state.candidates:
        rows = np.array(state.candidates)[rows]
    return state.task.expand(rows, draws)


def _missing_empty_prompt(state: ImageState) -> Pairs:
    """Draws of the leader on which the empty prompt, if there is one, is not evaluated yet."""
    if not state.candidates:
        return NO_PAIRS
    table = search_table(state)
    missing = np.isnan(state.table[-1]) & ~np.isnan(table[leader(table)])
    draws = np.flatnonzero(missing)
    return np.stack([np.full(len(draws), len(state.task.prompts)), draws], axis=1)


def _missing_of_decision(state: ImageState) -> Pairs:
    """Draws on which the best candidate or the background prompt is not evaluated yet.

    Whether the answer is "none of these" depends on the paired difference of these two alone, so
    both are evaluated on all N draws. The candidates' own race does not see the background: it can
    neither drop it nor be ended by it.
    """
    table = search_table(state)
    best = int(state.task.search.rank(table)[0])
    open_draws = np.flatnonzero(np.isnan(table[best]))
    of_candidate = _prompts_of(state, np.full(len(open_draws), best), open_draws)
    draws = np.flatnonzero(np.isnan(state.table[-1]))
    of_background = np.stack([np.full(len(draws), len(state.task.prompts)), draws], axis=1)
    return np.concatenate([of_candidate, of_background])
