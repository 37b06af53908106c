"""Ray executor: the method runs in workers, one per GPU or share of the CPUs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from diffcls.classifiers.base import Built
from diffcls.classifiers.fitting import Fitting
from diffcls.data.dataset import Dataset, Item
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.executors.ray_worker import Facts, MethodTask, inputs_of
from diffcls.evaluation.options import EvaluationOptions
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.cache import entries_in, put_entry
from diffcls.support.environment import threads
from diffcls.support.invariants import instance
from diffcls.support.workers.cluster import connected
from diffcls.support.workers.members import GivenUp
from diffcls.support.workers.pool import Pool
from diffcls.support.workers.requests import WorkerRequest


class RayExecutor:
    """See `diffcls.evaluation.executors.base.Executor`.

    Args:
        pool: the workers.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def build(
        self, method: str, options: EvaluationOptions, dataset: Dataset, prompts: PromptSet
    ) -> Built:
        count = options.threads or threads()
        task = MethodTask(method, options, inputs_of(dataset, prompts), count)
        return self._built(task, dataset)

    def describe_device(self, built: Built) -> str:
        return instance(built.method, RayMethod).facts.device

    def with_settings(
        self,
        built: Built,
        method: str,
        options: EvaluationOptions,
        prompts: PromptSet,
        header: Mapping[str, Any],
    ) -> Built:
        own = instance(built.method, RayMethod)
        task = own.task
        compiled = bool(header.get("compiled", False))
        # an automatic batch size, the default but on a CPU, may differ between the devices
        is_given = isinstance(options.batch_size, int) or (
            options.batch_size is None and built.device == "cpu"
        )
        is_kept = is_given and own.batch_size == header["batch_size"]
        settled = dataclasses.replace(
            task,
            options=dataclasses.replace(task.options, compile=compiled),
            threads=int(header["threads"]),
            batch_size=None if is_kept else int(header["batch_size"]),
        )
        return built if settled == task else self._built(settled, own.dataset)

    def _built(self, task: MethodTask, dataset: Dataset) -> Built:
        self._pool.share(entries_in(task.options.output_dir))
        facts: Facts = self._pool.call(task, "facts")
        task = dataclasses.replace(task, spec=facts.spec)  # all others must have the same
        method = RayMethod(self._pool, task, facts, dataset)
        fitting = None
        if facts.fit is not None:
            cost = facts.fit
            fitting = Fitting(lambda: False, lambda: cost)
        return dataclasses.replace(facts.built, method=method, fitting=fitting)


class RayMethod:
    """A method whose images are scored by workers; see `diffcls.classifiers.base.Method`.

    Args:
        pool: the workers.
        task: makes the method in a worker.
        facts: facts of the method.
        dataset: the images that it may receive.
    """

    def __init__(self, pool: Pool, task: MethodTask, facts: Facts, dataset: Dataset) -> None:
        self._pool, self.task, self.facts, self.dataset = pool, task, facts, dataset
        self.batch_size = facts.batch_size
        self._positions = {item.image_id: i for i, item in enumerate(dataset.items)}

    @property
    def posterior_scale(self) -> float | None:
        """Scale of the class posterior; it may be the result of a fit."""
        scale: float | None = self._call("attribute", "posterior_scale")
        return scale

    @property
    def candidate_scale(self) -> float:
        """See `diffcls.classifiers.rejection.RejectingMethod`."""
        scale: float = self._call("attribute", "candidate_scale")
        return scale

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """Scores of each image, in order of completion."""
        positions = [self._positions[item.image_id] for item in items]
        self._fit()
        for position, result in self._pool.stream(self.task, positions):
            self._note_batch()
            if isinstance(result, GivenUp):
                yield ClassScores.failed(self.dataset.items[position].image_id, str(result))
            else:
                yield result

    def seconds_per_batch(self) -> float:
        """Time of one full forward pass in one of the workers."""
        seconds: float = self._call("seconds_per_batch")
        return seconds

    def check(self, items: Sequence[Item]) -> None:
        """See `diffcls.classifiers.base.Method`."""
        self._call("check", [self._positions[item.image_id] for item in items])

    def _fit(self) -> None:
        """Let one worker make the fits, keep them here, and give them to the other workers."""
        folder, names = self.task.options.output_dir, self._call("fit")
        here = {path.name for path in entries_in(folder)}
        for name in names:
            data = None if name in here else self._call("fit_file", name)
            if data is not None:
                put_entry(folder, name, data)
        self._pool.share(path for path in entries_in(folder) if path.name in names)

    def _call(self, name: str, *arguments: Any) -> Any:
        value = self._pool.call(self.task, name, *arguments)
        self._note_batch()
        return value

    def _note_batch(self) -> None:
        """Take over the smallest batch size of the workers, which halve it for lack of memory."""
        rows = self._pool.smallest_batch(self.task)
        self.batch_size = min(self.batch_size, self.batch_size if rows is None else rows)


@contextmanager
def opened(options: EvaluationOptions) -> Iterator[RayExecutor]:
    """The executor on the cluster that the options name, which ends with the block if it is local.

    Raises:
        UsageError: if Ray is not installed, or no cluster answers.
    """
    request = WorkerRequest(options.workers, options.address, options.device)
    with connected(options.address) as cluster:
        pool = request.pool(cluster, options.threads or threads())
        try:
            yield RayExecutor(pool)
        finally:
            pool.close()
