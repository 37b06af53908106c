"""Comparable runs: their results on the images that all of them scored."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from diffcls.data.class_names import shorten
from diffcls.data.open_set import NONE_OF_THESE
from diffcls.metrics.calibration import posterior
from diffcls.runs.record import Record
from diffcls.runs.stored import StoredRun
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64

logger = logging.getLogger(__name__)

SAME = {
    "dataset": ("data sets", "select runs of one by dataset=NAME"),
    "split": ("splits", "select runs of one by split=NAME"),
    "data_revision": ("versions of the data", "rerun one of them on the data of the other"),
}
"""Fields of a specification that comparable runs share: their name in messages, and the remedy."""


class Outcome(NamedTuple):
    """The result of one scored image; the scores of all classes would fill the memory.

    Args:
        label: index of its class.
        answer: index of the best class.
        evaluations: forward passes.
        probability: posterior of the answer and of the label; None where it is not defined.
    """

    label: int
    answer: int
    evaluations: int
    probability: tuple[float, float] | None


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Args:
        run: the run.
        scored: image id -> outcome, of the images with scores.
        failed: ids of the images with an error.
        n_candidates: number of classes that each image was classified among; 0 without a scored
            image.
    """

    run: StoredRun
    scored: Mapping[str, Outcome]
    failed: frozenset[str]
    n_candidates: int

    @property
    def n_scored(self) -> int:
        return len(self.scored)

    @property
    def n_failed(self) -> int:
        return len(self.failed)

    @property
    def status(self) -> str:
        """``complete`` once every image of the run has a record and one is scored."""
        is_complete = self.n_scored and self.n_scored + self.n_failed == self.run.n_asked
        return "complete" if is_complete else "partial"


@dataclass(frozen=True)
class SharedImages:
    """Several runs on the n images that all of them scored.

    Args:
        runs: (R,) the runs.
        image_ids: (n,) in ascending order.
        class_names: (K,) names of the classes; empty where each image has candidates of its own.
        n_images: number of images of any of the runs.
    """

    runs: Sequence[Results]
    image_ids: Sequence[str]
    class_names: Sequence[str]
    n_images: int

    @property
    def n_classes(self) -> int:
        """Number of classes that each image was classified among."""
        return self.runs[0].n_candidates

    @cached_property
    def labels(self) -> Int64:
        """(n,) class indices."""
        return np.array([self.runs[0].scored[i].label for i in self.image_ids], dtype=np.int64)

    @cached_property
    def answers(self) -> Int64:
        """(R, n) index of each run's best class."""
        return np.array([[r.scored[i].answer for i in self.image_ids] for r in self.runs])

    @cached_property
    def evaluations(self) -> Float64:
        """(R, n) forward passes per image."""
        return np.array(
            [[r.scored[i].evaluations for i in self.image_ids] for r in self.runs], dtype=np.float64
        )

    @property
    def correct(self) -> Any:
        """(R, n) bool: whether an answer is the label."""
        return self.answers == self.labels

    def differs_in(self, r: int) -> list[str]:
        """Fields of the specification in which a run differs from the first one."""
        first, spec = self.runs[0].run.spec, self.runs[r].run.spec
        return sorted(k for k in first.keys() | spec.keys() if first.get(k) != spec.get(k))


def shared_images(runs: Sequence[StoredRun]) -> SharedImages:
    """The images that all runs scored; stderr says how many others there are.

    Raises:
        UsageError: for runs that cannot be compared.
        RecordError: for records that cannot be read.
    """
    for run in runs[1:]:
        _check_same_data(runs[0], run)
    shared = share([read_results(run) for run in runs])
    if len(shared.image_ids) < shared.n_images:
        parts = ", ".join(f"{r.run.fingerprint} {r.n_scored}" for r in shared.runs)
        logger.warning(
            "ONLY %d OF %d IMAGES ARE SHARED: all figures are on those that every run scored (%s)",
            *(len(shared.image_ids), shared.n_images, parts),
        )
    return shared


def share(results: Sequence[Results]) -> SharedImages:
    """The images that all of some results scored, without a word about how many others there are.

    Raises:
        UsageError: for runs that cannot be compared.
    """
    runs = [one.run for one in results]
    for run in runs[1:]:
        _check_same_data(runs[0], run)
    _check_classes(results)
    ids = set.intersection(*(set(one.scored) for one in results))
    everything: set[str] = set().union(*({*one.scored, *one.failed} for one in results))
    n_images = max([len(everything), *(run.n_asked or 0 for run in runs)])
    if not ids:
        raise UsageError(
            "the runs have no scored image in common",
            given=[f"{one.run.fingerprint}: {one.n_scored} scored" for one in results],
            allowed="runs on the same images",
            todo="rerun them with the same --limit, --subset or --indices",
        )
    _check_labels(results, sorted(ids))
    names = class_names(runs[0])
    own_candidates = len(names) != results[0].n_candidates
    return SharedImages(results, sorted(ids), () if own_candidates else tuple(names), n_images)


def read_results(run: StoredRun) -> Results:
    """The results of a run, from its records.

    Raises:
        RecordError: for records that cannot be read.
    """
    return results_of(run, run.each_record())


def results_of(run: StoredRun, records: Iterable[Record]) -> Results:
    """The results of a run, from its records: one per image, each of which is read once."""
    scored: dict[str, Outcome] = {}
    failed: set[str] = set()
    n_candidates = 0
    for record in records:
        if record.error is None:
            scored[record.image_id] = _outcome(record, run.posterior_scale)
            n_candidates = len(record.scores)
        else:
            failed.add(record.image_id)
    return Results(run, dict(sorted(scored.items())), frozenset(failed), n_candidates)


def _outcome(record: Record, scale: float | None) -> Outcome:
    scores = [-math.inf if score is None else score for score in record.scores]
    answer, probability = record.ranking[0], None
    if scale is not None and max(scores) > -math.inf:
        p = posterior(scores, scale)
        probability = float(p[answer]), float(p[record.label])
    return Outcome(record.label, answer, record.evaluations, probability)


def _check_same_data(first: StoredRun, other: StoredRun) -> None:
    for field, (name, todo) in SAME.items():
        one, two = first.spec.get(field), other.spec.get(field)
        if one != two:
            raise UsageError(
                f"runs of different {name} cannot be compared",
                given=f"{first.fingerprint}: {one}, {other.fingerprint}: {two}",
                todo=todo,
            )
    kept, other_kept = _withheld(first), _withheld(other)
    if (kept is None) != (other_kept is None):
        raise UsageError(
            "a run with --reject cannot be compared with one without: it has fewer candidates, and "
            "its images of other classes have the label 'none of these'",
            given=f"{first.fingerprint}, {other.fingerprint}",
            todo="select runs of one kind by setting=VALUE, or by their fingerprints",
        )
    if kept != other_kept:
        raise UsageError(
            "runs with --reject that withhold other labels cannot be compared",
            given=f"{first.fingerprint}: {shorten(kept or (), 5)}; "
            f"{other.fingerprint}: {shorten(other_kept or (), 5)}",
            todo="select runs of one seed by seed=N, which determines the labels",
        )


def _withheld(run: StoredRun) -> list[str] | None:
    """Labels that a run with ``--reject`` withholds from the candidates; None for other runs."""
    settings = run.spec.get("rejection")
    return list(json.loads(settings)["withheld"]) if settings else None


def class_names(run: StoredRun) -> Sequence[str]:
    """Names of the classes by index, "none of these" included."""
    names: Sequence[str] = run.spec.get("class_names", ())
    return names if _withheld(run) is None else (*names, NONE_OF_THESE)


def _check_classes(results: Sequence[Results]) -> None:
    first = results[0]
    for other in results[1:]:
        names, others = (class_names(r.run) for r in (first, other))
        counts = first.n_candidates or len(names), other.n_candidates or len(others)
        if counts[0] != counts[1] or len(names) != len(others):
            raise UsageError(
                "runs with different numbers of classes cannot be compared",
                given=f"{first.run.fingerprint}: {counts[0]}, {other.run.fingerprint}: {counts[1]}",
            )
        if names != others:
            k = next(k for k in range(len(names)) if names[k] != others[k])
            logger.warning(
                "classes have different names in %s and %s, such as %r and %r for class %d; "
                "they are compared by their index",
                *(first.run.fingerprint, other.run.fingerprint, names[k], others[k], k),
            )


def _check_labels(results: Sequence[Results], ids: Sequence[str]) -> None:
    for other in results[1:]:
        for image_id in ids:
            one, two = results[0].scored[image_id].label, other.scored[image_id].label
            if one != two:
                raise UsageError(
                    "runs with different labels cannot be compared",
                    given=f"{image_id}: {one} in {results[0].run.fingerprint}, "
                    f"{two} in {other.run.fingerprint}",
                )
