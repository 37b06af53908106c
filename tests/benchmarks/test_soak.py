"""Soak benchmark: images, points, the watch of processes, and growth against numpy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.speed import soak, soak_report
from benchmarks.speed.soak_images import SHIFTS, write_images
from benchmarks.speed.soak_watch import Records, watch
from diffcls.data.load import load_dataset
from diffcls.support.errors import DiffclsError


def points(mode: str = "serial", rate: float = 10.0, grows: float = 0.0) -> list[dict[str, Any]]:
    """Points of a run of 20,000 images."""
    return [
        {
            **{"model": "embedded", "mode": mode, "images": 20_000, "done": done},
            **{"seconds": done / rate, "memory_mib": 500 + grows * done / 1000, "handles": 7},
            "worker_memory_mib": None,
        }
        for done in soak.points_of(20_000)
    ]


def test_points_go_from_the_thousandth_image_to_the_last() -> None:
    chosen = soak.points_of(20_000)
    assert chosen == [1000 * i for i in range(1, 21)]
    assert soak.points_of(40)[0] == 2 and soak.points_of(40)[-1] == 40


def test_slope_is_that_of_least_squares() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 30))
    assert soak_report.slope(x.tolist(), y.tolist()) == pytest.approx(np.polyfit(x, y, 1)[0])
    assert soak_report.slope([1.0, 1.0], [1.0, 2.0]) == 0.0


def test_growth_and_gain_are_judged() -> None:
    summaries = [
        soak_report.summary(points()),
        soak_report.summary(points("2 shards", 18.5)),
        soak_report.summary(points("ray, 2 workers", 15.0, grows=0.75)),
    ]
    assert summaries[2]["memory_growth"] == pytest.approx(0.75)
    assert summaries[0]["speed_change"] == pytest.approx(0)
    text = "\n".join(soak_report.verdicts(summaries))
    assert "ray, 2 workers: +0.750 MiB per 1,000 images, at most 0.5: missed." in text
    assert "embedded, serial: +0.000 MiB per 1,000 images, at most 0.5: met." in text
    assert "2 shards: 1.85 times the speed of one process, at least 1.8: met." in text
    assert "ray, 2 workers: 1.50 times the speed of one process, at least 1.6: missed." in text


def test_readings_of_workers_that_are_missing_are_no_success() -> None:
    run = points("ray, 2 workers")
    for row in run:
        row["worker_memory_mib"] = 700.0 + row["done"] / 1000
    run[-1]["worker_memory_mib"] = None  # they have stopped
    assert soak_report.summary(run)["worker_growth"] == pytest.approx(1.0)
    assert not [v for v in soak_report.verdicts([soak_report.summary(run)]) if "without" in v]
    run[4]["worker_memory_mib"] = None
    summary = soak_report.summary(run)
    assert summary["worker_growth"] == pytest.approx(1.0)
    verdicts = [*soak_report.verdicts([summary])]
    assert any("+1.000 MiB per 1,000 images, at most 0.5: missed." in v for v in verdicts)
    assert any("1 points without the memory of a worker, none: missed." in v for v in verdicts)


def test_slower_images_at_the_end_are_seen() -> None:
    run = points()
    for row in run:
        row["seconds"] *= 1 + row["done"] / 40_000
    assert soak_report.summary(run)["speed_change"] < -soak_report.SPEED_CHANGE


def test_images_are_shifted_digits_with_paths_of_their_own(tmp_path: Path) -> None:
    digits = load_dataset("digits", "test")
    count = len(digits) + 20
    write_images(tmp_path / "images", count)
    data = load_dataset(f"folder:{tmp_path / 'images'}", "test")
    assert len(data) == count and len({item.image_id for item in data.items}) == count
    by_number = {int(Path(item.image_id).stem): item for item in data.items}
    for number, shift in ((5, SHIFTS[0]), (len(digits) + 5, SHIFTS[1])):
        original = np.asarray(digits.items[5].open().convert("L"))
        copy = np.asarray(by_number[number].open().convert("L"))
        assert (copy == np.roll(original, shift, (0, 1))).all()
        assert data.class_names[by_number[number].label] == str(digits.items[5].label)


def test_records_are_counted_by_complete_lines_of_all_shards(tmp_path: Path) -> None:
    folder = tmp_path / "runs/a"
    folder.mkdir(parents=True)
    records = Records(tmp_path)
    assert records.count() == 0
    (folder / "records-0-of-2.jsonl").write_text("{}\n{}\n{")
    (folder / "records-1-of-2.jsonl").write_text("{}\n")
    assert records.count() == 3
    with open(folder / "records-0-of-2.jsonl", "a") as file:
        file.write("}\n")
    assert records.count() == 4


LEAKY = """
import sys, time, pathlib
folder = pathlib.Path(sys.argv[1]) / "runs/a"
folder.mkdir(parents=True)
held = []
with open(folder / "records-0-of-1.jsonl", "a", buffering=1) as file:
    for i in range(40):
        held.append((open(__file__ if "__file__" in dir() else "/dev/null"), b"x" * 2**20))
        file.write("{}\\n")
        time.sleep(0.05)
time.sleep(0.5)
"""


@pytest.mark.slow
def test_leak_of_memory_and_handles_is_seen_from_outside(tmp_path: Path) -> None:
    samples = watch([["-c", LEAKY, str(tmp_path)]], tmp_path, [10, 20, 30, 40])
    assert samples[-1].done == 40 and len(samples) >= 3
    rows = [{"model": "", "mode": "", "images": 40, **vars(one)} for one in samples]
    summary = soak_report.summary(rows)
    assert summary["handle_growth"] == pytest.approx(1000, rel=0.3)  # one per image
    assert summary["memory_growth"] == pytest.approx(1000, rel=0.5)  # one MiB per image
    assert samples[0].worker_memory_mib is None


def test_command_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DiffclsError, match="a watched command failed"):
        watch([["-c", "raise SystemExit(3)"]], tmp_path, [10])


@pytest.mark.slow  # starts a local Ray cluster, and the embedded model in several processes
def test_soak_of_few_images_writes_its_page(tmp_path: Path) -> None:
    arguments = ["--embedded-images", "40", "--sleeping-images", "80"]
    assert soak.main([*arguments, "--output-dir", str(tmp_path)]) == 0
    page = (tmp_path / "SOAK.md").read_text(encoding="utf-8")
    assert "| embedded | 2 shards | 40 |" in page and "| sleeping | ray, 2 workers | 80 |" in page
    assert "times the speed of one process" in page
    before = (tmp_path / "soak.csv").read_bytes()
    assert soak.main([*arguments, "--output-dir", str(tmp_path)]) == 0  # all of it is stored
    assert (tmp_path / "soak.csv").read_bytes() == before
    assert sys.platform == "linux"
