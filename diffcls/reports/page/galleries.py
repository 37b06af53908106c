"""Galleries of a run: wrong and least certain images, and how each was decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from diffcls.reports.page.counterfactuals import Strip
from diffcls.reports.page.pictures import Thumbnail
from diffcls.reports.page.races import Race, elimination
from diffcls.reports.page.results import RunResults
from diffcls.support.types import Int64

BARS = 4
"""Classes of highest probability that are shown for an image, beside its label."""
CLASSES_PER_STEP = 6
"""Classes of an elimination step that are named."""


@dataclass(frozen=True)
class Bar:
    """A class of one image with its probability, None where it is not defined."""

    name: str
    probability: float | None
    is_label: bool
    is_answer: bool


@dataclass(frozen=True)
class Step:
    """Classes that left the race after `draws` draws; `is_last`: those that stayed to the end."""

    draws: int
    names: Sequence[str]
    more: int
    is_last: bool


@dataclass(frozen=True)
class Card:
    """One image of a gallery.

    Args:
        image_id: the image.
        label, answer: names of its class and of the answer.
        is_correct: whether they are the same class.
        evaluations: forward passes.
        bars: classes of highest probability, or best score, and the label.
        steps: elimination order; empty without an error table.
        picture: its thumbnail, if the data set was found.
        strip: its counterfactual, if one was requested.
    """

    image_id: str
    label: str
    answer: str
    is_correct: bool
    evaluations: int
    bars: Sequence[Bar]
    steps: Sequence[Step]
    picture: Thumbnail | None
    strip: Strip | None = None


def by_certainty(results: RunResults) -> Int64:
    """(n,) positions, the least certain first: by probability of the answer, else by margin."""
    if not results.records:
        return np.empty(0, dtype=np.int64)
    if results.probabilities is not None:
        certainty = results.probabilities.max(axis=1)
    else:
        best = np.sort(results.scores, axis=1)[:, -2:]
        with np.errstate(invalid="ignore"):
            certainty = np.nan_to_num(best[:, -1] - best[:, 0], nan=np.inf)
    return np.argsort(certainty, kind="stable")


def wrong_images(results: RunResults) -> Int64:
    """Positions of the images with a wrong answer, the most certain answers first."""
    order = by_certainty(results)[::-1]
    return order[results.labels[order] != results.answers[order]]


def card(
    results: RunResults,
    position: int,
    picture: Callable[[str], Thumbnail | None],
    races: Mapping[str, Race],
    names: Sequence[str] = (),
    strips: Mapping[str, Strip] = MappingProxyType({}),
) -> Card:
    """The card of an image.

    Args:
        results: the run.
        position: the image's place among the records.
        picture: image id -> thumbnail.
        races: image id -> error table.
        names: names of the image's own candidates; empty: those of the run's classes.
        strips: image id -> counterfactual.
    """
    record = results.records[position]
    label, answer = record.label, record.ranking[0]

    def name(k: int) -> str:
        return names[k] if names else results.name_of(k)

    shown = list(record.ranking[:BARS])
    if label not in shown:
        shown.append(label)
    p = None if results.probabilities is None else results.probabilities[position]
    race = races.get(record.image_id)
    steps = [] if race is None else elimination(race.table)
    return Card(
        image_id=record.image_id,
        label=name(label),
        answer=name(answer),
        is_correct=label == answer,
        evaluations=record.evaluations,
        bars=[
            Bar(name(k), None if p is None else float(p[k]), k == label, k == answer) for k in shown
        ],
        steps=[
            Step(
                draws,
                [name(k) for k in classes[-CLASSES_PER_STEP:]],
                max(0, len(classes) - CLASSES_PER_STEP),
                draws == steps[-1][0],
            )
            for draws, classes in steps
        ],
        picture=picture(record.image_id),
        strip=strips.get(record.image_id),
    )
