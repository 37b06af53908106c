"""SIGKILL: records and row equal those of an undisturbed run, and nothing is evaluated twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.fault_runs import (
    Server,
    Survival,
    Victim,
    check_life,
    check_same,
    kill_at_random,
    recorded,
)
from helpers.fault_shim import Plan
from helpers.interrupted_runs import lines
from helpers.sharded_runs import killed_merges

pytestmark = pytest.mark.faults

KILLS = 50
COMMAND = ("evaluate", "--threads", "1", "--quiet", "--draws", "4", "--batch-size", "8")
COMMAND = (*COMMAND, "--no-check-model", "--no-check-memory")
MANY = (*COMMAND, "--limit", "16")
FEW = (*COMMAND, "--limit", "3")
CRITERION = "records and row equal an undisturbed run's; only images in flight are scored again"


@pytest.fixture(scope="module")
def victims(serving: Server, serving_beside: Server) -> Mapping[str, Victim]:
    """Name -> run that is killed; another kind of run is another row."""
    shards = ("--shard", "0/2"), ("--shard", "1/2")
    rows = (
        Victim("serial run", (), serving.start),
        Victim("one of two shards", shards[0], serving.start, shards[1], serving_beside.start),
    )
    return {row.name: row for row in rows}


VICTIMS = ("serial run", "one of two shards")


def of(victim: Victim, command: tuple[str, ...]) -> Victim:
    """The victim with a command."""
    beside = None if victim.beside is None else (*command, *victim.beside)
    return Victim(victim.name, (*command, *victim.flags), victim.start, beside, victim.start_beside)


@pytest.fixture(scope="module")
def undisturbed(serving: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A command -> the output and the time of a run that nothing happens to."""
    done: dict[tuple[str, ...], tuple[Path, float]] = {}

    def run(command: tuple[str, ...]) -> tuple[Path, float]:
        if command not in done:
            out = tmp_path_factory.mktemp("undisturbed")
            life = serving.run((*command, "--output-dir", str(out)))
            assert life.status == 0, life.output
            done[command] = out, life.seconds
        return done[command]

    return run


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", VICTIMS)
def test_run_killed_at_random_moments_loses_and_repeats_nothing(
    name: str,
    victims: Mapping[str, Victim],
    undisturbed: Callable[..., tuple[Path, float]],
    tmp_path: Path,
    report: Callable[..., None],
) -> None:
    whole, seconds = undisturbed(MANY)
    survival = kill_at_random(of(victims[name], MANY), tmp_path, whole, KILLS, 0.8 * seconds)
    report("SIGKILL at a random moment", name, CRITERION, **survival.figures())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", VICTIMS)
def test_run_killed_at_any_file_event_loses_and_repeats_nothing(
    name: str,
    victims: Mapping[str, Victim],
    undisturbed: Callable[..., tuple[Path, float]],
    tmp_path: Path,
    report: Callable[..., None],
) -> None:
    whole, _ = undisturbed(FEW)
    victim, survival = of(victims[name], FEW), Survival()
    event, done = 0, False
    while not done:
        event += 1
        out = tmp_path / str(event)
        life = victim.live(out, Plan(str(out), at=event))
        done = not life.killed  # there is no such event
        check_life(life, set(), out, survival)
        before = recorded(out)
        resumed = victim.start((*victim.flags, "--output-dir", str(out)), None, None)()
        assert resumed.status == 0, resumed.output
        check_life(resumed, before, out, survival)
        check_same(out, whole, survival)
    assert survival.injected > 15  # a shard finds folders and header that the other one made
    report("SIGKILL at each file event", name, CRITERION, **survival.figures())


@pytest.mark.timeout(900)
def test_killed_command_continues_with_the_next_image(
    undisturbed: Callable[..., tuple[Path, float]], tmp_path: Path, report: Callable[..., None]
) -> None:
    """The whole command, start of Python and load of the model included."""
    whole, _ = undisturbed(MANY)
    out = tmp_path / "out"

    def until(records: int) -> tuple[subprocess.Popen[bytes], float]:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "diffcls", *MANY, "--output-dir", str(out)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        while len(lines(out)) < records and process.poll() is None:
            time.sleep(0.01)
        return process, time.monotonic() - began

    process, _ = until(2)
    process.kill()
    process.wait()
    stored = lines(out)
    assert 2 <= len(stored) < 16
    process, seconds = until(len(stored) + 1)
    assert process.wait(200) == 0
    assert lines(out)[: len(stored)] == stored
    check_same(out, whole)
    report(
        "SIGKILL of the whole command",
        "serial run",
        "the same command continues with the next image",
        injected=1,
        survived=1,
        records_lost=0,
        records_doubled=0,
        seconds=round(seconds, 1),
    )


@pytest.mark.parametrize(
    ("fault", "when"),
    [("SIGKILL at a random moment", f"{KILLS}"), ("SIGKILL at each file event", "events")],
)
def test_killed_merge_is_completed_by_the_next_one(
    fault: str, when: str, tmp_path: Path, report: Callable[..., None]
) -> None:
    kills = sum(killed_merges(tmp_path, when).values())
    assert kills >= KILLS // 2
    criterion = "sources unchanged; the same merge makes the files of an undisturbed one"
    figures = {"injected": kills, "survived": kills, "records_lost": 0, "records_doubled": 0}
    report(fault, "merge of shards", criterion, **figures)
