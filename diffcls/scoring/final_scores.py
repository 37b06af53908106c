"""Final scores and ranking of an image whose requests are all answered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffcls.data.prompts import PromptSet
from diffcls.scoring.class_scores import ClassScores
from diffcls.scoring.image_state import ImageState
from diffcls.scoring.next_requests import class_table, search_table
from diffcls.search.aggregation import VOTES
from diffcls.search.error_table import means, scores
from diffcls.search.screening import Screening


def final_scores(state: ImageState) -> ClassScores:
    """Scores and ranking of an image without further requests, or its failure."""
    if state.error is not None:  # a value that is not finite takes no part in a comparison
        return ClassScores.failed(state.image_id, state.error, state.seconds)
    task, table = state.task, search_table(state)
    row_scores, ranking = scores(table), task.search.rank(table)
    if state.screening is not None:
        in_errors = task.aggregate is VOTES["mean"]
        row_scores, ranking = with_screened_out(state.screening, row_scores, ranking, in_errors)
    if task.prompts_race:
        row_scores, ranking = _best_prompts(task.prompts, row_scores, ranking)
    if task.subtract_empty:
        row_scores = row_scores + float(means(state.table[-1:])[0])
    return ClassScores(
        state.image_id,
        row_scores,
        ranking,
        state.evaluations,
        state.seconds,
        errors=class_table(state) if task.keep_errors else None,
        raced=None if state.screening is None else state.screening.shortlist,
        background=-float(means(state.table[-1:])[0]) if task.background else None,
    )


def with_screened_out(
    screening: Screening,
    row_scores: NDArray[np.float64],
    ranking: NDArray[np.int64],
    in_errors: bool,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(K,) scores and ranking of all classes, from those of the shortlist.

    Args:
        screening: the finished screening of the image.
        row_scores, ranking: (S,) scores and ranking of the shortlist.
        in_errors: whether scores are errors: then a class that was screened out keeps its deficit
            to the leader from the screening; otherwise it is placed behind the whole shortlist.
    """
    shortlist = screening.shortlist
    best = int(ranking[0])
    top = row_scores[best] if in_errors else row_scores.min()
    class_scores = top - screening.deficits(int(shortlist[best]))
    class_scores = np.minimum(class_scores, np.nextafter(top, -np.inf))
    class_scores[shortlist] = row_scores
    # the race's own order comes first where two of its classes have equal scores
    place = np.full(len(class_scores), len(shortlist))
    place[shortlist[ranking]] = np.arange(len(shortlist))
    return class_scores, np.lexsort((place, -class_scores)).astype(np.int64)


def _best_prompts(
    prompts: PromptSet, row_scores: NDArray[np.float64], ranking: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(K,) scores and ranking of classes, each that of its best prompt."""
    class_of = np.array(prompts.class_of)
    best = np.full(prompts.n_classes, -np.inf)
    np.maximum.at(best, class_of, row_scores)
    return best, np.array(list(dict.fromkeys(class_of[ranking].tolist())))
