"""The section of one run: figures, tables and galleries, ready for the template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diffcls.metrics.statistics import wilson_interval
from diffcls.reports.page.counterfactuals import WITHOUT_STRIPS, Strips
from diffcls.reports.page.error_sources import ErrorTables
from diffcls.reports.page.figures import (
    Figure,
    calibration_figure,
    evaluation_figures,
    race_figures,
)
from diffcls.reports.page.galleries import Card, by_certainty, card, wrong_images
from diffcls.reports.page.pictures import Thumbnail
from diffcls.reports.page.races import TimeBin, by_timestep
from diffcls.reports.page.reliability import Calibration, calibration
from diffcls.reports.page.results import (
    MAX_MATRIX_CLASSES,
    Band,
    ClassAccuracy,
    RunResults,
    accuracy_per_class,
    bands,
    confused_pairs,
    confusion,
)
from diffcls.runs.record import Record
from diffcls.support.types import Int64

PAIRS_SHOWN = 20
"""Confused pairs that are listed; the CSV table has all of them."""
CLASSES_SHOWN = 60
"""Classes whose accuracy is listed, the worst first where there are more."""

HOW_TO_SAVE = (
    "The records hold no error tables: rerun the command with --save-errors DIR, or let the "
    "report score a few images once more by --rescore N"
)


@dataclass(frozen=True)
class Section:
    """What the page shows of a run.

    Args:
        results: the run.
        accuracy, low, high: with Wilson's interval; None without a scored image.
        figures: plots with captions.
        matrix: (K, K) images by label and answer; None where classes differ between images.
        pairs: confused pairs, the most frequent first: label, answer, images.
        classes: accuracy per class.
        bands: accuracy by number of evaluations.
        calibration: reliability; None where the method has no probabilities.
        times: errors by timestep; empty without error tables.
        n_wrong: number of wrong images.
        wrong, uncertain: cards of the galleries.
        notes: topic -> what is missing, and how to get it.
        source: where error tables come from; "" without any.
        own_names: image id -> names of its own candidates; empty for images without any.
    """

    results: RunResults
    accuracy: float | None
    low: float | None
    high: float | None
    figures: Sequence[Figure]
    matrix: Int64 | None
    pairs: Sequence[tuple[int, int, int]]
    classes: Sequence[ClassAccuracy]
    bands: Sequence[Band]
    calibration: Calibration | None
    times: Sequence[TimeBin]
    n_wrong: int
    wrong: Sequence[Card]
    uncertain: Sequence[Card]
    notes: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    own_names: Callable[[str], Sequence[str]] = lambda _: ()

    def names_of(self, record: Record) -> Callable[[int], str]:
        """Names of the classes that an image was classified among, by index."""
        own = self.own_names(record.image_id)
        return own.__getitem__ if own else self.results.name_of

    @property
    def shows_matrix(self) -> bool:
        """Whether the whole matrix is small enough to be read."""
        return self.matrix is not None and len(self.matrix) <= MAX_MATRIX_CLASSES


@dataclass(frozen=True)
class Chosen:
    """Positions of the images in a run's two galleries."""

    wrong: Sequence[int]
    uncertain: Sequence[int]


def choose(results: RunResults, count: int) -> Chosen:
    """Up to `count` wrong images, the most certain first, and of the least certain ones."""
    return Chosen(
        [int(i) for i in wrong_images(results)[:count]],
        [int(i) for i in by_certainty(results)[:count]],
    )


def section(
    results: RunResults,
    chosen: Chosen,
    tables: ErrorTables | str,
    picture: Callable[[str], Thumbnail | None],
    names: Callable[[str], Sequence[str]],
    missing_images: str,
    strips: Strips = WITHOUT_STRIPS,
) -> Section:
    """The section of a run.

    Args:
        results: the run.
        chosen: the images of its galleries.
        tables: error tables, or what is missing of them, as the end of a sentence.
        picture: image id -> thumbnail.
        names: image id -> names of its own candidates; empty for images without any.
        missing_images: why there are no thumbnails; "" where the data set was found.
        strips: counterfactuals of its wrong images.
    """
    found = tables if isinstance(tables, ErrorTables) else None
    notes = _notes(results, tables, missing_images)
    if strips.missing:
        notes["counterfactuals"] = f"No counterfactuals: {strips.missing}."
    if not results.records:
        return Section(
            results, *(None, None, None), (), None, (), (), (), None, (), 0, (), (), notes
        )
    n, correct = len(results.records), results.answers == results.labels
    races = {} if found is None else found.races
    sampled = [] if found is None else [found.races[i] for i in found.sample]
    matrix = confusion(results.labels, results.answers, results.n_classes)
    has_classes = bool(results.names)
    reliability = calibration(results)
    is_search = len(np.unique(results.evaluations)) > 1
    times = [] if found is None else by_timestep(sampled, found.indices.astype(np.float64))
    figures = evaluation_figures(results) if is_search else []
    figures += calibration_figure(reliability) if reliability is not None else []
    figures += race_figures(sampled, times, results.n_classes) if found is not None else []

    def cards(positions: Sequence[int], strips: Strips = WITHOUT_STRIPS) -> list[Card]:
        ids = [results.records[i].image_id for i in positions]
        return [
            card(results, i, picture, races, names(image_id), strips.by_image)
            for i, image_id in zip(positions, ids, strict=True)
        ]

    return Section(
        results,
        float(correct.mean()),
        *wilson_interval(int(correct.sum()), n),
        figures,
        matrix if has_classes else None,
        confused_pairs(matrix) if has_classes else (),
        accuracy_per_class(matrix) if has_classes else (),
        bands(results.evaluations, correct.astype(np.int64)) if is_search else (),
        reliability,
        times,
        int((~correct).sum()),
        cards(chosen.wrong, strips),
        cards(chosen.uncertain),
        notes,
        "" if found is None else found.source,
        names,
    )


def _notes(results: RunResults, tables: ErrorTables | str, missing_images: str) -> dict[str, str]:
    """Topic -> what is missing, and how to get it."""
    notes: dict[str, str] = {}
    if not results.records:
        notes["records"] = "No image has a score yet: rerun the command to resume the run."
        return notes
    if not results.names:
        notes["classes"] = (
            "Each image is classified among candidates of its own, so there are no accuracies per "
            "class and no confusion matrix."
        )
    if results.probabilities is None:
        notes["calibration"] = (
            "No reliability diagram: this method's scores are no log-likelihoods, so its answers "
            "have no probabilities."
        )
    if missing_images:
        notes["images"] = (
            f"No thumbnails: {missing_images}. Name the folder of the data by --data-root DIR, and "
            "write the report once more."
        )
    if len(np.unique(results.evaluations)) == 1:
        notes["evaluations"] = (
            "The method takes no evaluations of the denoiser; its cost is its seconds per image."
            if not results.evaluations.any()
            else f"Every image took {results.evaluations[0]} "
            f"{'evaluation' if results.evaluations[0] == 1 else 'evaluations'} of the denoiser, "
            "so accuracy does not vary with them."
        )
    if isinstance(tables, str) and tables:
        notes["tables"] = f"No elimination order and no errors by timestep: {tables}."
    return notes
