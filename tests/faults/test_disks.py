"""Disks: full, out of inodes, read-only, failing, without locks, and without power."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from helpers.fault_runs import Life, Server, check_same, recorded
from helpers.fault_shim import CHANGES, TAKES_SPACE, Plan, restored
from helpers.interrupted_runs import lines

pytestmark = pytest.mark.faults

FLAGS = ("evaluate", "--threads", "1", "--quiet", "--draws", "4", "--batch-size", "8")
FLAGS = (*FLAGS, "--limit", "3", "--no-check-model", "--no-check-memory")


def command(out: Path) -> list[str]:
    return [*FLAGS, "--output-dir", str(out)]


@pytest.fixture(scope="module")
def undisturbed(
    serving: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, tuple[str, ...]]:
    """The output of a run that nothing happens to, and its file events."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    life = serving.run(command(out), Plan(str(out)))
    assert life.status == 0, life.output
    return out, life.events


def check_refusal(life: Life, status: Sequence[int] = (1,)) -> None:
    """A clear message of at most three lines, no traceback, and the exit status."""
    assert life.status in status, (life.status, life.output)
    assert "Traceback" not in life.output and life.output.startswith("diffcls: "), life.output
    assert len(life.output.splitlines()) <= 3, life.output


def check_resumed(serving: Server, out: Path, whole: Path) -> None:
    """The same command, once the disk is sound again, completes the run."""
    before = recorded(out)
    life = serving.run(command(out))
    assert life.status == 0, life.output
    assert not set(life.started) & before
    check_same(out, whole)


FAULTS = {
    "ENOSPC": ("Full disk", TAKES_SPACE, (1,), "No space left on device"),
    "EDQUOT": ("Quota exceeded", TAKES_SPACE, (1,), "Disk quota exceeded"),
    "EROFS": ("Read-only file system", CHANGES, (2, 1), "Read-only file system"),
    "EIO": ("Failing disk", CHANGES | {"fsync"}, (1,), "Input/output error"),
}
"""Name of an errno -> fault, the file events it concerns, exit status, and words of the message."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FAULTS)
def test_disk_that_fails_at_any_file_event_is_a_clear_stop_that_resumes(
    name: str,
    serving: Server,
    undisturbed: tuple[Path, tuple[str, ...]],
    tmp_path: Path,
    report: Callable[..., None],
) -> None:
    fault, concerned, status, words = FAULTS[name]
    whole, events = undisturbed
    moments = [k for k, kind in enumerate(events, start=1) if kind in concerned]
    if name in ("EDQUOT", "EIO"):
        moments = moments[::3]
    silent = 0
    for at in moments:
        out = tmp_path / str(at)
        life = serving.run(command(out), Plan(str(out), at=at, action=name))
        if life.status == 0:
            silent += 1  # what failed was not needed: the synchronisation of a folder
        else:
            check_refusal(life, status)
            assert words in life.output, life.output
        check_resumed(serving, out, whole)
    assert len(moments) > 4 and silent < len(moments) / 2
    report(
        fault,
        "serial run, at each file event",
        f"clear stop with exit status {' or '.join(map(str, status))}, nothing lost; "
        "the same command resumes",
        injected=len(moments),
        survived=len(moments),
        records_lost=0,
        records_doubled=0,
    )


# ---- real file systems ---------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system in memory; called again, it mounts it with other options."""
    place = tmp_path / "mounted"
    place.mkdir()

    def mount(options: str, again: bool = False) -> Path:
        options = f"remount,{options}" if again else options
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"mount is refused: {done.stderr.strip()}")
        return place

    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    yield mount  # type: ignore[misc]
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


PAGES = (1, 2, 3)
INODES = (2, 4, 5, 6, 7, 8, 9)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fault", "small", "large"),
    [
        ("Full disk", [f"size={4 * pages}k" for pages in PAGES], "size=16m"),
        ("Out of inodes", [f"nr_inodes={count}" for count in INODES], "nr_inodes=1000"),
    ],
)
def test_small_file_system_is_a_clear_stop_that_resumes(
    fault: str,
    small: list[str],
    large: str,
    serving: Server,
    undisturbed: tuple[Path, tuple[str, ...]],
    mounted: Callable[..., Path],
    report: Callable[..., None],
) -> None:
    refused = 0
    for options in small:
        place = mounted(options)
        life = serving.run(command(place / "out"))
        if life.status != 0:
            refused += 1
            check_refusal(life)
            assert "No space left on device" in life.output
        mounted(large, again=True)
        check_resumed(serving, place / "out", undisturbed[0])
        subprocess.run(["umount", "--lazy", str(place)], check=True)
    assert refused >= 2
    report(
        fault,
        "serial run on a file system in memory",
        "clear stop, nothing lost; the same command resumes once there is space",
        injected=refused,
        survived=refused,
        records_lost=0,
        records_doubled=0,
    )


def test_read_only_file_system_is_bad_usage(
    serving: Server, mounted: Callable[..., Path], report: Callable[..., None]
) -> None:
    place = mounted("size=1m")
    mounted("ro", again=True)
    life = serving.run(command(place / "out"))
    check_refusal(life, (2,))
    assert "--output-dir cannot be written (Read-only file system)" in life.output
    assert not life.started
    report(
        "Read-only file system",
        "serial run on a file system in memory",
        "refused before any image is scored, exit status 2",
        injected=1,
        survived=1,
    )


# ---- locks and clocks ----------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from diffcls.support.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_lock_that_is_held_for_ever_is_named_and_taken_over_from_a_dead_process(
    serving: Server,
    undisturbed: tuple[Path, tuple[str, ...]],
    tmp_path: Path,
    report: Callable[..., None],
) -> None:
    out = tmp_path / "out"
    table = out / "leaderboard.csv"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(table)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        wait = serving.start(command(out))
        deadline, printed = time.monotonic() + 60, ""
        while "waiting for" not in printed and time.monotonic() < deadline:
            time.sleep(0.05)
            printed = max(
                tmp_path.parent.parent.rglob("output-*"), key=os.path.getmtime
            ).read_text()
        assert f"waiting for {table}, held by another process (pid {holder.pid})" in printed
        assert len(recorded(out)) == 3  # all is on disk but the row
        holder.kill()
        killed = time.monotonic()
        life = wait()
        seconds = time.monotonic() - killed
    assert life.status == 0
    check_same(out, undisturbed[0])
    report(
        "Lock held for ever",
        "leaderboard",
        "named with its process after 2 s; taken over when that process is dead",
        injected=1,
        survived=1,
        seconds=round(seconds, 2),
    )


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "EINVAL"])
def test_file_system_without_locks_is_refused_by_name(
    name: str, serving: Server, tmp_path: Path, report: Callable[..., None]
) -> None:
    out = tmp_path / "out"
    life = serving.run(command(out), Plan(str(out), flock=name))
    check_refusal(life, (2,))
    assert "--output-dir lies on a file system without file locks" in life.output
    assert not life.started and not lines(out)
    if name == "ENOLCK":
        report(
            "File system without locks",
            "serial run",
            "refused before any image is scored: two processes could write one file",
            injected=1,
            survived=1,
        )


def test_clock_that_jumps_changes_nothing(
    serving: Server,
    undisturbed: tuple[Path, tuple[str, ...]],
    tmp_path: Path,
    report: Callable[..., None],
) -> None:
    out = tmp_path / "out"
    life = serving.run(command(out), Plan(str(out), clock=1e7))
    assert life.status == 0, life.output
    check_same(out, undisturbed[0])
    seconds = [json.loads(line)["seconds"] for line in lines(out)]
    assert all(0 <= one < 60 for one in seconds)
    report(
        "Clock that jumps",
        "serial run, by 115 days at each reading",
        "records and row unchanged; no time is negative",
        injected=1,
        survived=1,
    )


# ---- power loss ----------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_run_that_loses_power_at_any_file_event_resumes(
    serving: Server,
    undisturbed: tuple[Path, tuple[str, ...]],
    tmp_path: Path,
    report: Callable[..., None],
) -> None:
    whole, events = undisturbed
    lost = []
    for at in range(1, len(events) + 2):
        out, mirror, after = (tmp_path / f"{name}-{at}" for name in ("out", "mirror", "after"))
        out.mkdir()
        mirror.mkdir()
        life = serving.run(command(out), Plan(str(out), at=at, action="power", mirror=str(mirror)))
        assert life.status in (0, -signal.SIGKILL)
        restored(mirror, out, after)
        lost.append(len(recorded(out)) - len(recorded(after)))
        check_resumed(serving, after, whole)
        if life.status == 0:  # what a finished run has reported is on disk
            assert lost[-1] == 0 and (after / "leaderboard.csv").exists()
    report(
        "Power loss at each file event",
        "serial run",
        "whole files; at most the last 100 records, or 5 seconds of them, are scored again",
        injected=len(lost),
        survived=len(lost),
        records_lost=0,
        records_doubled=0,
        most_scored_again=max(lost),
    )
