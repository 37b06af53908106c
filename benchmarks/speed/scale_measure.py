"""Measurement of the scale benchmark: one run of the Ray executor, in a process of its own.

It is the run of `diffcls.evaluation.one_run`, with its store, progress and row, on the workers of
`diffcls.support.workers`; only the classifier in the workers sleeps. Half-way one worker is killed.
"""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed.classes_measure import memory, reset_peak
from benchmarks.speed.sleeping import (
    PREFIX,
    SleepingTask,
    WorkerScores,
    scores_of,
    sleeping_images,
    sleeping_plan,
)
from diffcls.data.dataset import Dataset, Item
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.errors import RecordError

ENCODED_IMAGES = 200
"""Images whose records are encoded once more, for the share of the encoding."""


def cpu_seconds() -> float:
    """CPU time of this process so far, user and system, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Watched:
    """A method whose results are watched as they pass; it kills one worker half-way.

    Args:
        method: the method, on workers.
        pids: reads the process ids of the scheduled workers.
        workers: number of workers.
        images: number of images.
        delivered: positions of the images that were delivered before the kill.
        times: time of the result after each quarter of the images.
        began, ended: CPU time as the first image is requested, and after the last result.
        memory_mib: peak memory by then.
        killed, recovered: time of the kill, and of the first result of the replacement.
        replacement_cpu: CPU time of the replacement by then: its start and its imports.
    """

    method: Any
    pids: Any
    workers: int
    images: int
    delivered: set[str] = field(default_factory=set)
    times: dict[int, float] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    memory_mib: float = 0.0
    killed: float | None = None
    recovered: float | None = None
    replacement_cpu: float | None = None

    @property
    def batch_size(self) -> int:
        """See `diffcls.classifiers.base.Method`."""
        return int(self.method.batch_size)

    @property
    def posterior_scale(self) -> float | None:
        """See `diffcls.classifiers.base.Method`."""
        scale: float | None = self.method.posterior_scale
        return scale

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """The results of the method."""
        self.began = cpu_seconds()
        known: frozenset[int] = frozenset()
        for count, result in enumerate(self.method.classify(items), start=1):
            if count in (self.images // 4, self.images // 2):
                self.times[count] = time.monotonic()
            if self.killed is None:
                if count >= self.images // 2 and len(pids := self.pids()) == self.workers:
                    known = frozenset(pids)
                    os.kill(pids[0], signal.SIGKILL)
                    self.killed = time.monotonic()
                else:
                    self.delivered.add(result.image_id)
            elif (
                self.recovered is None
                and isinstance(result, WorkerScores)
                and result.pid not in known
            ):
                self.recovered = time.monotonic()
                self.replacement_cpu = result.cpu_seconds
            yield result
        self.ended = cpu_seconds()
        self.memory_mib = memory("VmHWM")

    @property
    def recovery_seconds(self) -> float | None:
        """Time from the kill to the first result of the replacement; None without one."""
        if self.killed is None or self.recovered is None:
            return None
        return self.recovered - self.killed

    @property
    def images_per_second(self) -> float | None:
        """Throughput in the second quarter of the images, before the kill."""
        quarter, half = self.images // 4, self.images // 2
        if half not in self.times or half == quarter:
            return None
        return (half - quarter) / (self.times[half] - self.times[quarter])


@contextmanager
def on_workers(
    task: SleepingTask, workers: int, dataset: Dataset, address: str | None = None
) -> Iterator[Any]:
    """The method on workers, and the pool of these.

    Args:
        task: makes the method.
        workers: number of workers.
        dataset: the images.
        address: of the cluster; None: a local one.
    """
    from diffcls.evaluation.executors.ray import RayMethod
    from diffcls.evaluation.executors.ray_worker import Facts
    from diffcls.support.workers.cluster import connected
    from diffcls.support.workers.requests import WorkerRequest

    class SleepingRayMethod(RayMethod):
        def _fit(self) -> None:
            """There is nothing to fit."""

    # the run has its own facts of the method, see `sleeping_plan`
    built: Any = None
    facts = Facts(built=built, batch_size=task.batch, device="none", fit=None, spec={})
    made: Any = task
    with connected(address) as cluster:
        pool = WorkerRequest(workers, address, "cpu").pool(cluster, 1)
        try:
            yield SleepingRayMethod(pool, made, facts, dataset), pool
        finally:
            pool.close()


def measure(
    classes: int,
    workers: int,
    images: int,
    seconds: float,
    batch: int = 8,
    scratch: str | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """One row of the table.

    Args:
        classes: number of classes.
        workers: number of workers.
        images: number of images.
        seconds: time that a worker sleeps per image.
        batch: images that a worker has in flight together.
        scratch: folder for the records while they are needed; None: the system's.
        quiet: whether no progress is shown.
    """
    from diffcls.evaluation.one_run import run
    from diffcls.runs.records import RecordStore

    with tempfile.TemporaryDirectory(prefix="diffcls-scale-", dir=scratch) as folder:
        output, log = Path(folder) / "results", Path(folder) / "begun"
        task = SleepingTask(classes, seconds, batch, str(log))
        dataset = sleeping_images(images, classes)
        with on_workers(task, workers, dataset) as (method, pool):
            watched = Watched(method, lambda: pool.pids, workers, images)
            plan = sleeping_plan(watched, dataset, output, quiet)
            reset_peak()
            load, start = os.getloadavg()[0], cpu_seconds()
            row = run(plan)
            end = cpu_seconds()
        peak = memory("VmHWM")
        path = next(output.glob("runs/*/records-*.jsonl"))
        begun = Counter(log.read_text(encoding="ascii").split())
        bytes_per_record = path.stat().st_size / images
        lines, ids = _ids(path)
        reset_peak()
        before = cpu_seconds()
        with RecordStore(output, plan.spec, (0, 1), dataset) as store:
            if len(store.done) != row["n_scored"]:
                raise RecordError("records were lost", f"{len(store.done)} of {row['n_scored']}")
        resumed = cpu_seconds() - before
        resumed_peak = memory("VmHWM")
    rate = watched.images_per_second
    return {
        "classes": classes,
        "workers": workers,
        "images": images,
        "seconds_per_image": seconds,
        "batch": batch,
        "images_per_second": rate,
        "of_ideal": None if rate is None else rate * seconds / workers,
        "load": load,
        "start_seconds": watched.began - start,
        "driver_ms": (end - start) / images * 1e3,
        "loop_ms": (watched.ended - watched.began) / images * 1e3,
        "row_ms": (end - watched.ended) / images * 1e3,
        "record_ms": record_seconds(task) * 1e3,
        "resume_ms": resumed / images * 1e3,
        "loop_memory_mib": watched.memory_mib,
        "memory_mib": peak,
        "resume_memory_mib": resumed_peak,
        "bytes_per_record": bytes_per_record,
        "recovery_seconds": watched.recovery_seconds,
        "recovery_cpu_seconds": watched.replacement_cpu,
        "lost": images - len(ids),
        "doubled": lines - len(ids),
        "scored_twice": sum(count - 1 for count in begun.values()),
        "delivered_twice": sum(
            begun[one.removeprefix(PREFIX)] - 1 for one in sorted(watched.delivered)
        ),
    }


def _ids(path: Path) -> tuple[int, set[str]]:
    """Number of lines of a records file, and the image ids in them; read line by line."""
    import json

    lines, ids = 0, set()
    with open(path, encoding="utf-8") as file:
        for line in file:
            lines += 1
            ids.add(json.loads(line[: line.index(',"label"')] + "}")["image_id"])
    return lines, ids


def record_seconds(task: SleepingTask, images: int = ENCODED_IMAGES) -> float:
    """CPU time of making an image's record and its line, alone."""
    from diffcls.evaluation.executors.recording import to_record

    results = [scores_of(key, task) for key in range(images)]
    start = time.process_time()
    for result in results:
        to_record(result, 0, "0" * 16).to_line().encode("utf-8")
    return (time.process_time() - start) / images
