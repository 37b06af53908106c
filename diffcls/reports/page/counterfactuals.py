"""Counterfactuals of wrong images: the smallest edit after which a run's classifier is right.

Each takes seconds to minutes, so they are made on request (``--counterfactuals N``) and cached.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.data.dataset import Dataset, Item
from diffcls.evaluation.options import EvaluationOptions
from diffcls.reports.page.editable_runs import check_editable
from diffcls.reports.page.pictures import Thumbnail, thumbnail
from diffcls.reports.page.reopening import as_in, reopened
from diffcls.reports.page.results import RunResults
from diffcls.reports.page.stored_options import CommandReader
from diffcls.runs.record import Record
from diffcls.runs.stored import StoredRun
from diffcls.support.cache import Arrays, fitted, is_fitted
from diffcls.support.errors import DataError, DiffclsError
from diffcls.support.progress import Progress
from diffcls.support.version import __version__

if TYPE_CHECKING:
    from diffcls.editing.options import EditSettings
    from diffcls.evaluation.plan import Plan

MAX_CLASSES = 10
"""Classes of an image among which it is edited: the most probable ones, and its label."""
EDIT_VERSION = 2
"""Part of every key of the cache; increased whenever edits would differ."""
KIND = "counterfactual"


@dataclass(frozen=True)
class Tile:
    """One edit on the way: its picture, and the probabilities of both classes; strength 0: none."""

    strength: float
    picture: Thumbnail
    answer: float
    label: float


@dataclass(frozen=True)
class Strip:
    """The way of an image from the answer to its label.

    Args:
        answer, label: names of the two classes.
        tiles: the original, then edits of growing strength.
        is_convincing: whether the last one has the label as its answer.
    """

    answer: str
    label: str
    tiles: Sequence[Tile]
    is_convincing: bool


@dataclass(frozen=True)
class Strips:
    """Strips of a run, by image id, and what is missing: the end of a sentence, "" if nothing."""

    by_image: Mapping[str, Strip] = field(default_factory=dict)
    missing: str = ""


WITHOUT_STRIPS = Strips()


class Counterfactuals:
    """Counterfactuals of the first wrong images of a page.

    Args:
        count: images, at most.
        folder: output folder of the runs, with the cache.
        runs: the runs of the page.
        read_command: see `diffcls.reports.page.stored_options.options_of`.

    Raises:
        UsageError: if the model of none of the runs can be edited, see
            `diffcls.reports.page.editable_runs.check_editable`.
    """

    def __init__(
        self, count: int, folder: Path, runs: Sequence[StoredRun], read_command: CommandReader
    ) -> None:
        self._left, self._folder = count, folder
        self._obstacles = check_editable(runs, read_command) if count else {}

    def of(
        self,
        results: RunResults,
        images: tuple[Dataset, EvaluationOptions] | str,
        wrong: Sequence[int],
    ) -> Strips:
        """Strips of a run's first wrong images, as many as are left of all.

        Args:
            results: the run.
            images: its data set and options, or what is missing of them.
            wrong: positions of its wrong images, in the order of the page.
        """
        if not self._left or not wrong:
            return Strips()
        if obstacle := self._obstacles[results.run.fingerprint]:
            return Strips(missing=obstacle)
        if isinstance(images, str):
            return Strips(missing=images)
        records = [results.records[i] for i in wrong[: self._left]]
        found: dict[str, Strip] = {}
        try:
            with as_in(results.run):
                self._add(found, results, images, records)
        except (DiffclsError, OSError, RuntimeError, MemoryError, ImportError) as error:
            return Strips(found, " ".join(str(error).split()))
        finally:
            self._left -= len(found)
        return Strips(found)

    def _add(
        self,
        found: dict[str, Strip],
        results: RunResults,
        images: tuple[Dataset, EvaluationOptions],
        records: Sequence[Record],
    ) -> None:
        from diffcls.editing.counterfactual import STRENGTHS

        items = {item.image_id: item for item in images[0].items}
        defined = {record.image_id: _defined_by(results, record) for record in records}
        folder = str(self._folder)
        count = sum(not is_fitted(folder, KIND, one) for one in defined.values())
        with Progress(
            count * (1 + len(STRENGTHS)), "counterfactuals", "edits", quiet=not count
        ) as p:
            editor = _Editor(results.run, images, p.update)
            for record in records:
                item, given = items[record.image_id], defined[record.image_id]
                make = partial(editor.way, item, record, given["classes"])
                names = _names(images[0], item, results)
                arrays = fitted(folder, KIND, given, make)
                found[record.image_id] = _strip(arrays, record, given["classes"], names)


class _Editor:
    """Edits images of a run; its model is loaded for the first one."""

    def __init__(
        self,
        run: StoredRun,
        images: tuple[Dataset, EvaluationOptions],
        update: Callable[[int], None],
    ) -> None:
        self._run, self._images, self._update = run, images, update

    @cached_property
    def _plan(self) -> Plan:
        plan = reopened(self._run, *self._images)
        if isinstance(plan, str):
            raise DataError(plan)
        return plan

    def way(self, item: Item, record: Record, classes: Sequence[int]) -> Arrays:
        """The way of an image from the answer to its label among some classes.

        Returns:
            ``strength`` (S,), ``pixels`` (S, H, W, 3) of 8 bits, and ``posterior`` (S, K).
        """
        from diffcls.data.transforms import to_image
        from diffcls.editing.counterfactual import STRENGTHS
        from diffcls.editing.method_counterfactual import among, method_counterfactual

        method = among(self._plan.built, self._images[1], classes)
        answer, label = classes.index(record.ranking[0]), classes.index(record.label)
        found = method_counterfactual(
            method, item, answer, label, edit_settings(), lambda: self._update(1)
        )
        self._update(1 + len(STRENGTHS) - len(found.steps))
        return {
            "strength": np.array([step.strength for step in found.steps]),
            "pixels": np.stack([np.asarray(to_image(step.image)) for step in found.steps]),
            "posterior": np.stack([step.posterior for step in found.steps]),
        }


def edit_settings() -> EditSettings:
    """Settings of the edits: those of ``python -m diffcls.counterfactual``."""
    from diffcls.editing.options import EditSettings

    return EditSettings()


def _defined_by(results: RunResults, record: Record) -> dict[str, Any]:
    """All that defines the counterfactual of an image."""
    from diffcls.editing.counterfactual import CONVINCED, STRENGTHS

    return {
        "version": EDIT_VERSION,
        "diffcls": __version__,
        "run": results.run.fingerprint,
        "batch_size": int(results.run.header["batch_size"]),
        "threads": int(results.run.header["threads"]),
        "image": record.image_id,
        "answer": record.ranking[0],
        "label": record.label,
        "classes": classes_of(results, record),
        "settings": dataclasses.asdict(edit_settings()),
        "strengths": list(STRENGTHS),
        "convinced": CONVINCED,
    }


def classes_of(results: RunResults, record: Record) -> list[int]:
    """Classes among which an image is edited, in their own order: see `MAX_CLASSES`.

    All of them where each image has candidates of its own, or classes have a prior.
    """
    everything = range(len(record.scores))
    if not results.names or results.run.spec.get("class_prior") or len(everything) <= MAX_CLASSES:
        return list(everything)
    return sorted({*record.ranking[:MAX_CLASSES], record.label})


def _names(dataset: Dataset, item: Item, results: RunResults) -> Callable[[int], str]:
    if item.candidates:
        return lambda k: dataset.class_names[item.candidates[k]]
    return results.name_of


def _strip(
    arrays: Arrays, record: Record, classes: Sequence[int], name: Callable[[int], str]
) -> Strip:
    from PIL import Image

    from diffcls.editing.counterfactual import convinces

    answer, label = classes.index(record.ranking[0]), classes.index(record.label)
    posteriors = arrays["posterior"]
    tiles = [
        Tile(float(strength), thumbnail(Image.fromarray(pixels)), float(p[answer]), float(p[label]))
        for strength, pixels, p in zip(
            arrays["strength"], arrays["pixels"], posteriors, strict=True
        )
    ]
    last = np.asarray(posteriors[-1], dtype=np.float64)
    return Strip(name(record.ranking[0]), name(record.label), tiles, convinces(last, label))
