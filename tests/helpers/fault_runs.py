"""Runs that faults happen to, and the comparison of what is left with an undisturbed run."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.fault_shim import Plan
from helpers.interrupted_runs import answers, lines

from diffcls.runs.records import Record

VARYING = ("seconds_per_image", "date", "command", "commit")
"""Columns of a row that differ between equal runs; the commit, where one is made meanwhile."""


@dataclass(frozen=True)
class Life:
    """A process of a run, from its start to its end.

    Args:
        status: its exit status; minus the signal that ended it.
        seconds: its time.
        output: what it printed.
        started: the images whose scoring it started.
        events: the kinds of its file events, if they were logged.
    """

    status: int
    seconds: float
    output: str
    started: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.status == -signal.SIGKILL


class Server:
    """Runs commands in forked processes, see `helpers.fault_server`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "helpers.fault_server"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self, argv: Sequence[str], plan: Plan | None = None, kill_after: float | None = None
    ) -> Callable[[], Life]:
        """Start ``diffcls ARGV…``; returns the function that waits for its end."""
        self._count += 1
        plan = plan or Plan("/nowhere")
        started = self._folder / f"started-{self._count}"
        events = self._folder / f"events-{self._count}"
        output = self._folder / f"output-{self._count}"
        for path in (started, events, output):
            path.touch()
        plan = dataclasses.replace(plan, started=str(started), events=str(events))
        request = {
            "argv": list(argv),
            "plan": dataclasses.asdict(plan),
            "output": str(output),
            "kill_after": kill_after,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)

        def wait() -> Life:
            reply = json.loads(self._process.stdout.readline())  # type: ignore[union-attr]
            texts = (path.read_text(errors="replace") for path in (output, started, events))
            printed, began, counted = texts
            return Life(
                reply["status"],
                reply["seconds"],
                printed,
                tuple(began.split()),
                tuple(counted.split()),
            )

        return wait

    def run(self, *arguments: Any, **options: Any) -> Life:
        """`start`, and the wait for the end."""
        return self.start(*arguments, **options)()

    def close(self) -> None:
        """End the server; its runs have ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server for the time of a block."""
    serving = Server(folder)
    try:
        yield serving
    finally:
        serving.close()


@dataclass
class Victim:
    """A run to which faults happen. A new one is a row: its name and its commands.

    Args:
        name: of the row in the report.
        flags: arguments of the process that the faults happen to, without the output folder.
        beside: arguments of a process that runs at the same time; None: none.
        start: starts a process: (arguments, plan, kill_after) -> function that waits for its end.
            Another way of running, such as one that ends a worker and not the driver, is another
            function.
        start_beside: the same for `beside`.
    """

    name: str
    flags: tuple[str, ...]
    start: Callable[..., Callable[[], Life]]
    beside: tuple[str, ...] | None = None
    start_beside: Callable[..., Callable[[], Life]] | None = None

    def live(self, out: Path, plan: Plan | None = None, kill_after: float | None = None) -> Life:
        """One process of the run, until it ends or is killed."""
        where = ("--output-dir", str(out))
        other = None
        if self.beside is not None and self.start_beside is not None:
            other = self.start_beside((*self.beside, *where))
        life = self.start((*self.flags, *where), plan, kill_after)()
        if other is not None:
            assert other().status == 0
        return life


@dataclass
class Survival:
    """What kills did to the records of a run.

    Args:
        injected: number of kills.
        rescored: of each kill, the images in flight: started, and without a record at its end.
        lost, doubled: records that the finished runs lacked, or had twice.
    """

    injected: int = 0
    rescored: list[int] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0

    def figures(self) -> dict[str, Any]:
        """Columns of the report."""
        return {
            "injected": self.injected,
            "survived": self.injected,
            "records_lost": self.lost,
            "records_doubled": self.doubled,
            "most_scored_again": max(self.rescored, default=0),
        }


def recorded(out: Path) -> set[str]:
    """The images that have a record."""
    return {Record.from_line(line).image_id for line in lines(out)}


def row(out: Path) -> dict[str, str]:
    """The only row of the leaderboard, without what differs between equal runs."""
    with open(out / "leaderboard.csv", newline="", encoding="utf-8") as file:
        (one,) = csv.DictReader(file)
    return {name: value for name, value in one.items() if name not in VARYING}


def check_same(out: Path, whole: Path, survival: Survival | None = None) -> None:
    """The records and the row of a run equal those of an undisturbed one, times aside."""
    ids = [Record.from_line(line).image_id for line in lines(out)]
    if survival is not None:
        survival.lost += len(recorded(whole) - set(ids))
        survival.doubled += len(ids) - len(set(ids))
    assert answers(out) == answers(whole)
    assert row(out) == row(whole)
    left = [p.name for p in out.rglob("*.tmp")]
    assert not left, "a temporary file was left"


def check_life(life: Life, before: set[str], out: Path, survival: Survival) -> None:
    """No image with a record was started again; count those that were in flight at the end."""
    assert not set(life.started) & before, "a recorded image was evaluated again"
    assert len(set(life.started)) == len(life.started), "an image was evaluated twice in one life"
    if life.killed:
        survival.injected += 1
        survival.rescored.append(len(set(life.started) - recorded(out)))


def kill_at_random(
    victim: Victim, folder: Path, whole: Path, kills: int, seconds: float, seed: int = 0
) -> Survival:
    """Kill a run at random moments; it is resumed until it is done, and then begins again.

    Args:
        victim: the run.
        folder: new folder for its outputs.
        whole: output of the undisturbed run.
        kills: number of kills.
        seconds: latest moment of a kill after a start.
        seed: of the moments.
    """
    moments, survival, attempt = random.Random(seed), Survival(), 0
    while survival.injected < kills:
        attempt += 1
        out, done = folder / str(attempt), False
        while not done:
            before = recorded(out)
            left = survival.injected < kills
            life = victim.live(out, kill_after=moments.uniform(0, seconds) if left else None)
            check_life(life, before, out, survival)
            done = not life.killed
            assert life.killed or life.status == 0, life.output
        check_same(out, whole, survival)
    return survival
