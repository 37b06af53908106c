"""Ray executor: the records of the serial run, whatever dies on the way."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.processes import default_interrupt
from helpers.ray_processes import lines_of
from helpers.sleeping_workers import Sleeping, scores_of

import diffcls
from diffcls.runs.record import read_records
from diffcls.support.workers.cluster import connected
from diffcls.support.workers.members import GivenUp, WorkersDied
from diffcls.support.workers.pool import MAX_GIVEN_UP, Pool

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install diffcls[ray]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WORKERS = 2
RECOVERY_SECONDS = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with connected(None) as one:
        yield one


@pytest.fixture
def pool(cluster: Any) -> Iterator[Pool]:
    one = Pool(cluster, WORKERS)
    yield one
    one.close()


def evaluated(log: Path) -> Counter[int]:
    """How often each image was begun, from the log of all workers."""
    return Counter(int(line.split()[0]) for line in log.read_text().splitlines())


def check(results: dict[int, Any], count: int) -> None:
    assert sorted(results) == list(range(count))
    for key, result in results.items():
        expected = scores_of(key)
        assert result.scores.tolist() == expected.scores.tolist()
        assert result.ranking.tolist() == expected.ranking.tolist()


def test_killed_workers_lose_no_image_and_double_none_but_those_in_flight(
    pool: Pool, tmp_path: Path
) -> None:
    make, results, killed = Sleeping(str(tmp_path / "log"), 0.01), {}, []
    last, longest = time.monotonic(), 0.0
    for key, result in pool.stream(make, range(1500)):
        assert key not in results
        results[key] = result
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
        if len(results) in (200, 700):
            killed.append(pool.pids[len(killed)])
            os.kill(killed[-1], signal.SIGKILL)
    check(results, 1500)
    counts = evaluated(tmp_path / "log")
    in_flight = 2 * make.ahead
    assert sorted(counts) == list(range(1500))
    assert sum(counts.values()) - 1500 <= len(killed) * in_flight
    assert len(set(pool.pids) & set(killed)) == 0
    assert longest < RECOVERY_SECONDS


def test_an_image_that_kills_its_worker_is_given_up_after_three_deaths(
    pool: Pool, tmp_path: Path
) -> None:
    make = Sleeping(str(tmp_path / "log"), 0.005, poison=(17,))
    results = dict(pool.stream(make, range(200)))
    assert results.pop(17) == GivenUp(3)
    assert sorted(results) == [key for key in range(200) if key != 17]
    assert evaluated(tmp_path / "log")[17] == 3


def test_the_last_images_may_all_kill_their_worker(pool: Pool, tmp_path: Path) -> None:
    poison = tuple(range(50, 50 + MAX_GIVEN_UP - 1))  # no result comes after them
    make = Sleeping(str(tmp_path / "log"), 0.005, poison=poison)
    results = dict(pool.stream(make, range(50 + len(poison))))
    assert [results.pop(key) for key in poison] == [GivenUp(3)] * len(poison)
    check(results, 50)


def test_workers_that_all_die_end_the_run(pool: Pool, tmp_path: Path) -> None:
    make = Sleeping(str(tmp_path / "log"), poison=tuple(range(1000)))
    with pytest.raises(WorkersDied, match="died one after another"):
        list(pool.stream(make, range(1000)))
    assert sum(evaluated(tmp_path / "log").values()) < 20


def test_an_error_in_a_worker_is_raised_as_it_is_and_the_pool_works_on(
    pool: Pool, tmp_path: Path
) -> None:
    make = Sleeping(str(tmp_path / "log"), error=40)
    with pytest.raises(ValueError, match="image 40"):
        list(pool.stream(make, range(100)))
    sound = dataclasses.replace(make, error=None)
    assert pool.call(sound, "double", 21) == 42
    check(dict(pool.stream(sound, range(50))), 50)


def test_results_are_those_of_every_worker_and_near_the_end_all_have_work(
    pool: Pool, tmp_path: Path
) -> None:
    make = Sleeping(str(tmp_path / "log"), 0.1, ahead=4)
    pool.call(make, "double", 1)
    while len(pool.pids) < WORKERS:  # both are there
        pool.call(make, "double", 1)
    check(dict(pool.stream(make, range(40))), 40)
    shares = Counter(line.split()[1] for line in (tmp_path / "log").read_text().splitlines())
    assert min(shares.values()) >= 12


def records_of(folder: Path) -> list[Any]:
    """All records, without their times; an image twice is an error."""
    (run,) = (folder / "runs").iterdir()
    records = [r for path in sorted(run.glob("records-*")) for r in read_records(path)]
    assert len({record.image_id for record in records}) == len(records)
    return sorted(
        (dataclasses.replace(record, seconds=0.0) for record in records),
        key=lambda record: record.image_id,
    )


def evaluate(folder: Path, **options: Any) -> list[Any]:
    diffcls.run_evaluation(
        dataset="digits", output_dir=str(folder), quiet=True, threads=1, **options
    )
    return records_of(folder)


METHODS: dict[str, dict[str, Any]] = {
    "racing": {"limit": 24, "draws": 8},
    "gradient": {"limit": 12, "search": "gradient", "draws": 4, "candidates": 3},
    "paper": {"limit": 12, "search": "paper", "stages": ("4:3", "8:1")},
    "clip": {"limit": 40, "method": ("clip",)},
    "sd-features": {"limit": 40, "method": ("sd-features",)},
}


@pytest.mark.parametrize("name", METHODS)
def test_records_equal_those_of_the_serial_run(name: str, cluster: Any, tmp_path: Path) -> None:
    options = METHODS[name]
    serial = evaluate(tmp_path / "serial", **options)
    assert evaluate(tmp_path / "ray", executor="ray", workers=WORKERS, **options) == serial
    assert len(serial) == options["limit"]


COMMAND = "evaluate --limit 60 --draws 6 --threads 1 --executor ray --workers 2".split()


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_an_interrupted_run_keeps_its_records_and_resumes(
    sent: signal.Signals, status: int, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "diffcls", *COMMAND, "--output-dir", str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_interrupt,
    )
    while lines_of(out) < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(sent)
    printed, errors = process.communicate(timeout=120)
    assert (process.returncode, printed) == (status, "")
    assert "Traceback" not in errors
    folders = Path("/tmp")  # noqa: S108  where Ray's folders lie
    assert not list(folders.glob(f"diffcls-ray-{process.pid}-*"))
    kept = records_of(out)
    assert 5 <= len(kept) < 60
    resumed = evaluate(out, limit=60, draws=6)
    assert len(resumed) == 60
    assert [record for record in resumed if record in kept] == kept
    assert resumed == evaluate(tmp_path / "serial", limit=60, draws=6)
