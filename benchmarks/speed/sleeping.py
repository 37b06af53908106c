"""Sleeping classifier: takes its time per image and computes nothing, without torch in its workers.

Whatever a run with it costs is the cost of the run itself: reading, handing out, recording.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.data.dataset import Dataset, Item
from diffcls.scoring.class_scores import ClassScores

if TYPE_CHECKING:
    from diffcls.classifiers.base import Built
    from diffcls.evaluation.options import EvaluationOptions
    from diffcls.evaluation.plan import Plan

PREFIX = "test/"


@dataclass(frozen=True)
class WorkerScores(ClassScores):
    """Class scores that name the process they come from; neither is part of a record.

    Args:
        pid: the process.
        cpu_seconds: CPU time of that process so far.
    """

    pid: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class SleepingTask:
    """Makes the sleeping classifier, in this process or in a worker.

    Args:
        classes: number of classes.
        seconds: time per image.
        batch: images in flight together: they are begun at once and completed at once.
        log: file that gets a line per image as its work begins, or none.
    """

    classes: int
    seconds: float
    batch: int = 8
    log: str = ""

    def __call__(self) -> SleepingMethod:
        return SleepingMethod(self)


class SleepingMethod:
    """See `diffcls.classifiers.base.Method`; it is served by Ray's workers, too.

    Args:
        task: its settings.
    """

    posterior_scale = 1.0

    def __init__(self, task: SleepingTask) -> None:
        self.task, self.batch_size = task, task.batch
        self._pid = os.getpid()

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """Scores of each image, in order of completion."""
        keys = (int(item.image_id.removeprefix(PREFIX)) for item in items)
        for _, scores in self.stream(keys):
            yield scores

    def stream(self, keys: Iterator[int]) -> Iterator[tuple[int, ClassScores]]:
        """(position, scores) of each image: a batch is begun, slept through, and completed."""
        batch: list[int] = []
        for key in keys:
            batch.append(key)
            if len(batch) == self.task.batch:
                yield from self._scored(batch)
                batch = []
        yield from self._scored(batch)

    def _scored(self, keys: Sequence[int]) -> Iterator[tuple[int, ClassScores]]:
        if self.task.log and keys:
            with open(self.task.log, "a", encoding="ascii") as file:  # one write, thus no mixture
                file.write("".join(f"{key}\n" for key in keys))
        time.sleep(self.task.seconds * len(keys))
        for key in keys:
            yield key, scores_of(key, self.task, self._pid)

    def attribute(self, name: str) -> Any:
        """An attribute of the method."""
        return getattr(self, name)

    def seconds_per_batch(self) -> float:
        """Time of one batch."""
        return self.task.seconds * self.task.batch

    def check(self, items: Sequence[Item]) -> None:
        """There is nothing to test."""


def scores_of(key: int, task: SleepingTask, pid: int = 0) -> WorkerScores:
    """The scores of an image: they depend on its position alone."""
    scores = np.random.default_rng(key).standard_normal(task.classes)
    ranking = np.argsort(-scores)
    spent = time.process_time() if pid else 0.0
    return WorkerScores(
        *(f"{PREFIX}{key}", scores, ranking, task.classes, task.seconds), pid=pid, cpu_seconds=spent
    )


def sleeping_images(images: int, classes: int) -> Dataset:
    """A data set of images that nobody opens."""
    items = tuple(Item(f"{PREFIX}{i}", i % classes, _open) for i in range(images))
    names = tuple(f"class {k}" for k in range(classes))
    return Dataset("sleeping", "test", names, items, revision=f"{images} images")


def _open() -> Any:
    raise AssertionError("the sleeping classifier opens no image")


def sleeping_plan(method: Any, dataset: Dataset, output: Path, quiet: bool = True) -> Plan:
    """The plan of an evaluation with the sleeping classifier, ready for `evaluation.one_run.run`.

    Args:
        method: the classifier, here or in workers.
        dataset: its images.
        output: output folder of the run.
        quiet: whether no progress is shown.
    """
    from diffcls.data.prompts import PromptSet
    from diffcls.evaluation.options import EvaluationOptions
    from diffcls.evaluation.plan import Plan, spec_of

    options = EvaluationOptions(output_dir=str(output), check_model=False, quiet=quiet)
    prompts = PromptSet.from_templates(dataset.class_names, ["{}"])
    built = _built(method, prompts)
    spec = spec_of("sleeping", options, dataset, "all", built, built.img_size)
    return Plan(options, dataset, prompts, built, spec, (0, 1), SleepingExecutor())


def _built(method: Any, prompts: Any) -> Built:
    from diffcls.classifiers.base import Built
    from diffcls.models.denoiser import ModelCard

    return Built(
        method=method,
        card=ModelCard("sleeping", "1"),
        prompts=prompts,
        img_size=1,
        supervision="zero-shot",
        setting="default",
    )


class SleepingExecutor:
    """See `diffcls.evaluation.executors.base.Executor`: the method is built already."""

    def build(
        self, method: str, options: EvaluationOptions, dataset: Dataset, prompts: Any
    ) -> Built:
        raise AssertionError("the plan holds the method")

    def describe_device(self, built: Built) -> str:
        return "none"

    def with_settings(
        self,
        built: Built,
        method: str,
        options: EvaluationOptions,
        prompts: Any,
        header: Mapping[str, Any],
    ) -> Built:
        return built
