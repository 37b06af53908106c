"""SIGKILL under Ray: of workers, of a node and of the driver. The classifier only sleeps."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.fault_runs import Survival, check_same, recorded
from helpers.fault_shim import Plan
from helpers.interrupted_runs import lines
from helpers.ray_processes import node_cluster
from helpers.sleeping_runs import BATCH, CLASSES, WORKERS, begun, run_here, sleeping_task

from benchmarks.speed.scale_measure import on_workers
from benchmarks.speed.sleeping import sleeping_images, sleeping_plan
from diffcls.evaluation.one_run import run

pytest.importorskip("ray", reason="Ray is not installed: pip install diffcls[ray]")
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

KILLS = 50
LEAST_GAP, LARGEST_GAP = 100, 240
"""Images between two kills. An image with which three workers died in succession is given up, so
that those of the last victim are done before the next kill."""
MANY, FEW = 120, 4
IN_FLIGHT = WORKERS * 4 * BATCH
"""Images that are begun and not recorded, at most: two batches of each worker, of which one is
completed, and what the driver has received meanwhile."""
CRITERION = "records and row equal a serial run's; only images in flight are scored again"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of a node without CPUs, to which tests add others."""
    with node_cluster() as one:
        yield one


@dataclasses.dataclass
class Struck:
    """A method on workers; something is killed after random numbers of images.

    Args:
        method: the method.
        strike: kills.
        gaps: numbers of images before each kill.
        longest: longest time between two results, in seconds.
    """

    method: Any
    strike: Callable[[], None]
    gaps: list[int]
    longest: float = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def classify(self, items: Iterable[Any]) -> Iterator[Any]:
        """The results of the method."""
        strikes, last = set(itertools.accumulate(self.gaps)), time.monotonic()
        for count, result in enumerate(self.method.classify(items), start=1):
            self.longest = max(self.longest, time.monotonic() - last)
            if count in strikes:
                self.strike()
            yield result
            last = time.monotonic()


def struck(
    address: str, folder: Path, strike_of: Callable[[Any], Callable[[], None]]
) -> tuple[Survival, float]:
    """A run with kills, compared with a serial one.

    Returns:
        What the kills did, and the longest time between two results.
    """
    moments = random.Random(0)
    gaps = [moments.randint(LEAST_GAP, LARGEST_GAP) for _ in range(KILLS)]
    images = sum(gaps) + LARGEST_GAP
    log, out, whole = folder / "log", folder / "out", folder / "whole"
    dataset = sleeping_images(images, CLASSES)
    with on_workers(sleeping_task(log), WORKERS, dataset, address) as (method, pool):
        watched = Struck(method, strike_of(pool), gaps)
        run(sleeping_plan(watched, dataset, out))
    run_here(images, whole)
    again = sum(begun(log).values()) - images
    assert again <= KILLS * IN_FLIGHT // WORKERS
    survival = Survival(KILLS, rescored=[-(-again // KILLS)])  # on average, rounded up
    check_same(out, whole, survival)
    return survival, watched.longest


def test_killed_workers_lose_and_repeat_nothing(
    cluster: Any, tmp_path: Path, report: Callable[..., None]
) -> None:
    node = cluster.add_node(num_cpus=WORKERS)
    moments = random.Random(1)

    def strike_of(pool: Any) -> Callable[[], None]:
        return lambda: os.kill(moments.choice(pool.pids), signal.SIGKILL)

    survival, longest = struck(cluster.address, tmp_path, strike_of)
    cluster.remove_node(node)
    figures = {**survival.figures(), "seconds": round(longest, 1)}
    report("SIGKILL at a random moment", "Ray worker", CRITERION, **figures)


def test_killed_nodes_lose_and_repeat_nothing(
    cluster: Any, tmp_path: Path, report: Callable[..., None]
) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(WORKERS)]
    moments = random.Random(2)

    def strike() -> None:
        victim = nodes.pop(moments.randrange(len(nodes)))
        cluster.remove_node(victim, allow_graceful=False)
        nodes.append(cluster.add_node(num_cpus=1))

    survival, longest = struck(cluster.address, tmp_path, lambda _: strike)
    for node in nodes:
        cluster.remove_node(node)
    figures = {**survival.figures(), "seconds": round(longest, 1)}
    report("SIGKILL at a random moment", "node of Ray", CRITERION, **figures)


class Driver:
    """Starts runs as drivers of their own processes.

    Args:
        address: of the cluster.
        folder: for the logs of the workers.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder, self._lives = address, folder, 0

    def live(
        self,
        out: Path,
        images: int,
        survival: Survival,
        at: int = 0,
        kill_after: float | None = None,
    ) -> bool:
        """One life of a driver; whether it was killed, which is counted.

        Args:
            out: its output folder.
            images: number of images.
            survival: counts the kill, and the images that were in flight.
            at: its file event at which it is killed; 0: none.
            kill_after: time after its first record at which it is killed.
        """
        self._lives += 1
        log, before = self._folder / f"{self._lives}", recorded(out)
        plan = Plan(str(out), at=at, started=str(log))
        arguments = [self._address, str(images), json.dumps(dataclasses.asdict(plan))]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "helpers.sleeping_runs", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        if kill_after is not None:
            while process.poll() is None and len(lines(out)) == len(before):
                time.sleep(0.02)
            time.sleep(kill_after)
            process.kill()
        errors = process.communicate(timeout=120)[1]
        assert process.returncode in (0, -signal.SIGKILL), errors
        after, counts = recorded(out), begun(log)
        assert before <= after, "a record was lost"
        assert not before & set(counts), "a recorded image was begun again"
        assert max(counts.values(), default=1) == 1, "an image was begun twice in one life"
        if killed := process.returncode != 0:
            survival.injected += 1
            survival.rescored.append(len(set(counts) - after))
        return killed


@pytest.fixture(scope="module")
def driver(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    node = cluster.add_node(num_cpus=WORKERS)
    yield Driver(cluster.address, tmp_path_factory.mktemp("drivers"))
    cluster.remove_node(node)


def test_driver_killed_at_random_moments_loses_nothing(
    driver: Driver, tmp_path: Path, report: Callable[..., None]
) -> None:
    run_here(MANY, whole := tmp_path / "whole")
    moments, survival, attempt = random.Random(3), Survival(), 0
    while survival.injected < KILLS:
        attempt += 1
        out, killed = tmp_path / str(attempt), True
        while killed:
            moment = moments.uniform(0, 0.5) if survival.injected < KILLS else None
            killed = driver.live(out, MANY, survival, kill_after=moment)
        check_same(out, whole, survival)
    assert max(survival.rescored) <= IN_FLIGHT
    report("SIGKILL at a random moment", "driver of Ray", CRITERION, **survival.figures())


def test_driver_killed_at_any_file_event_loses_nothing(
    driver: Driver, tmp_path: Path, report: Callable[..., None]
) -> None:
    run_here(FEW, whole := tmp_path / "whole")
    survival, event, killed = Survival(), 0, True
    while killed:
        event += 1
        out = tmp_path / str(event)
        killed = driver.live(out, FEW, survival, at=event)
        if killed:
            assert not driver.live(out, FEW, survival)
        check_same(out, whole, survival)
    assert survival.injected > 20
    report("SIGKILL at each file event", "driver of Ray", CRITERION, **survival.figures())
