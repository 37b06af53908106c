"""Scale benchmark: a run on sleeping workers, its estimates recomputed, resuming, and the page."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.core.tables import read_rows, write_rows
from benchmarks.speed import scale, scale_measure, scale_report
from benchmarks.speed.scale_estimates import (
    JOBS,
    PAPER,
    Assumptions,
    Job,
    RecordSize,
    Throughput,
    estimate,
    evaluations_per_image,
    in_flight,
    power_law,
    searches,
    table_bytes,
    throughput,
)
from benchmarks.speed.sleeping import (
    SleepingMethod,
    SleepingTask,
    scores_of,
    sleeping_images,
    sleeping_plan,
)
from diffcls.evaluation.executors.recording import to_record
from diffcls.evaluation.one_run import run
from diffcls.runs.record import read_records

ROOT = Path(__file__).parents[2]
GROWTH: list[dict[str, Any]] = [
    {"what": "classes", "classes": n, "search": search, "evaluations_per_image": e, **fit}
    for search, n, e, fit in (
        ("racing", 10, 25.0, {}),
        ("racing", 100, 250.0, {}),
        ("racing", 1000, 2500.0, {"fit_evaluations": None}),
        ("learned", 10, 25.0, {"fit_evaluations": None, "images": 500}),  # all race: no fit
        ("learned", 100, 50.0, {"fit_evaluations": 20.0, "images": 500}),
        ("learned", 1000, 100.0, {"fit_evaluations": 40.0, "images": 1000}),
        ("once", 100, 1.0, {}),
    )
]


def of(classes: int, images: int = 50_000) -> Job:
    return Job("x", images, classes)


ROW: dict[str, Any] = dict.fromkeys(scale.COLUMNS, 0) | {
    "classes": 1000,
    "workers": 2,
    "images": 50,
    "seconds_per_image": 0.01,
    "batch": 8,
    "images_per_second": 190.0,
    "of_ideal": 0.95,
    "driver_ms": 3.5,
    "memory_mib": 600.0,
    "resume_memory_mib": 610.0,
    "bytes_per_record": 23_690.0,
    "recovery_seconds": 4.0,
}
FEW = ROW | {"classes": 10, "driver_ms": 0.4, "bytes_per_record": 380.0}


def test_published_procedure_takes_the_published_evaluations() -> None:
    # Li et al. 2023; among more classes, only the first stage of 50 samples takes more
    assert evaluations_per_image([], PAPER, of(1000))[0] == 124_500
    assert evaluations_per_image([], PAPER, of(20_000))[0] == 124_500 + 19_000 * 50


def test_other_searches_grow_as_a_power_of_the_classes() -> None:
    assert searches(GROWTH) == ["racing", "learned"]  # one point makes no line
    assert evaluations_per_image(GROWTH, "racing", of(1000)) == (
        2500.0,
        "measured on scenes of 1,000 classes",
    )
    assert evaluations_per_image(GROWTH, "racing", of(20_000))[0] == pytest.approx(50_000)


def test_a_fit_is_made_once_whatever_the_number_of_images() -> None:
    # fits of 10,000 and 40,000 evaluations at 100 and 1,000 classes; 100 evaluations per image
    for images in (1, 80, 10**6):
        value, source = evaluations_per_image(GROWTH, "learned", of(1000, images))
        assert value == pytest.approx(100 + 40_000 / images)
        assert source == "measured on scenes of 1,000 classes"
    # per factor of 10, images take twice as many and a fit four times as many
    value, source = evaluations_per_image(GROWTH, "learned", of(10_000, 160))
    assert value == pytest.approx(200 + 160_000 / 160)
    assert "extrapolated from 100 and 1,000" in source
    assert power_law(1, 2, 2, 8, 4) == pytest.approx(32)


def test_hours_money_and_failures_follow_from_evaluations() -> None:
    given = Assumptions(price=3.0, hours_between_preemptions=10.0, gpus=4, batch=64)
    result = estimate(Job("x", 7200, 1000), "racing", GROWTH, Throughput(500.0, ""), given)
    # 7,200 images × 2,500 evaluations at 500/s are 36,000 s, 10 h
    assert result.gpu_hours == pytest.approx(10)
    assert result.days == pytest.approx(10 / 4 / 24)
    assert result.cost == pytest.approx(30)
    assert result.preemptions == pytest.approx(1)
    assert result.scored_again == pytest.approx(33)
    assert result.lost_share == pytest.approx(33 / 7200)


def test_images_in_flight_fill_one_batch() -> None:
    assert in_flight("racing", 1000, 64) == 32 + 1  # two classes are left, a draw each
    # the smallest stage of `paper`: 10 classes and 500 draws, far more than a batch
    assert in_flight(PAPER, 1000, 64) == 1 + 1


def test_record_size_is_that_of_a_record() -> None:
    def size(classes: int) -> float:
        lines = [
            to_record(scores_of(i, SleepingTask(classes, 0.0)), 0, "0" * 16).to_line()
            for i in range(20)
        ]
        return sum(map(len, lines)) / len(lines)

    rows = [{"classes": n, "bytes_per_record": size(n)} for n in (10, 300)]
    estimated = RecordSize.through(rows)
    assert estimated is not None
    assert estimated.of(300) == pytest.approx(size(300))
    assert estimated.of(5000) == pytest.approx(size(5000), rel=0.01)
    assert RecordSize.through(rows[:1]) is None
    assert table_bytes(1000, 40) == 1000 * 40 * 4


def test_throughput_is_the_fastest_measured_one_or_published(tmp_path: Path) -> None:
    assert throughput(tmp_path).per_second == pytest.approx(2750 / 30)
    assert "published" in throughput(tmp_path).source
    rows = [
        {"device": "A", "network": network, "measure": "m", "dtype": "d", "batch": 8,
         "evaluations_per_second": rate}
        for network, rate in (("SD-2-base", 70.0), ("SD-2-base", 340.0), ("SDXL", 900.0))
    ]  # fmt: skip
    write_rows(tmp_path / "gpu-a.csv", rows, list(rows[0]))
    assert throughput(tmp_path) == Throughput(340.0, "measured: A, m, d, batches of 8")


def test_committed_page_follows_from_the_committed_tables() -> None:
    folder = ROOT / "results/reference"
    page = (folder / scale_report.PAGE).read_text(encoding="utf-8")
    growth = read_rows(folder / "growth.csv")
    rate = max(
        float(row["evaluations_per_second"])
        for path in folder.glob("gpu-*.csv")
        for row in read_rows(path)
        if row["network"] == "SD-2-base" and row["evaluations_per_second"]
    )
    racing = {r["classes"]: r for r in growth if (r["what"], r["search"]) == ("classes", "racing")}
    few, many = sorted(racing)[-2:]
    for job in JOBS:
        evaluations = racing[many]["evaluations_per_image"]
        if job.classes != many:
            exponent = math.log(evaluations / racing[few]["evaluations_per_image"])
            evaluations *= (job.classes / many) ** (exponent / math.log(many / few))
        hours = job.images * evaluations / rate / 3600
        section = page[page.index(f"### {job.name}:") :]
        line = next(line for line in section.splitlines() if line.startswith("| `racing`"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == f"{evaluations:,.0f}"
        assert cells[4] == f"{hours:,.0f}"
        assert cells[6] == f"{hours * Assumptions().price:,.0f}"


def test_targets_are_judged_by_their_worst_row() -> None:
    lines = [*scale_report.targets([FEW, ROW, ROW | {"driver_ms": 4.5, "lost": 1}])]
    assert "- 0.40 ms of the driver's CPU per image at 10 classes, at most 2: met." in lines
    assert "- 4.50 ms of the driver's CPU per image at 1,000 classes, at most 4: missed." in lines
    assert "- 610 MiB of memory in the driver, at most 1024: met." in lines
    assert "- 1 images lost, at most 0: missed." in lines
    assert "- 4.0 s to recover from a killed worker, at most 10: met." in lines
    unseen = [*scale_report.targets([ROW, FEW | {"recovery_seconds": None}])]
    assert "- 1 of 2 runs saw no recovery from a killed worker: missed." in unseen


def test_stored_rows_are_kept_and_replaced(tmp_path: Path) -> None:
    one = {"classes": 1000, "workers": 2, "images": 50, "seconds": 0.01, "batch": 8}
    assert not scale._is_stored(one, tmp_path)
    for row in (ROW, FEW, ROW | {"driver_ms": 3.0}):
        scale._store(row, tmp_path)
    assert scale._is_stored(one, tmp_path)
    assert not scale._is_stored(one | {"images": 51}, tmp_path)
    assert [r["driver_ms"] for r in read_rows(tmp_path / "scale.csv")] == [0.4, 3.0]
    assert scale.main(["--report-only", "--output-dir", str(tmp_path)]) == 0
    assert "| 1,000 | 2 | 50 |" in (tmp_path / "SCALE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "flags",
    ["--images 3", "--workers 2 0", "--classes 1", "--seconds 0", "--price nan", "--scratch no"],
)
def test_values_out_of_range_are_refused(
    flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scale.main([*flags.split(), "--output-dir", str(tmp_path)]) == 2
    assert flags.split()[0] in capsys.readouterr().err


def test_too_small_a_disk_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = dataclasses.make_dataclass("Usage", ["free"])
    monkeypatch.setattr(scale.shutil, "disk_usage", lambda _: usage(10**9))
    monkeypatch.setattr(scale, "_in_a_process", lambda _: pytest.fail("a run was started"))
    assert scale.main(["--output-dir", str(tmp_path)]) == 2
    assert "1.0 GB free" in capsys.readouterr().err


def test_sleeping_run_has_a_record_of_every_image(tmp_path: Path) -> None:
    task = SleepingTask(classes=12, seconds=0.0, batch=4, log=str(tmp_path / "begun"))
    dataset = sleeping_images(30, 12)
    row = run(sleeping_plan(SleepingMethod(task), dataset, tmp_path))
    assert (row["n_scored"], row["status"], row["evaluations_per_image"]) == (30, "complete", 12)
    (path,) = tmp_path.glob("runs/*/records-*.jsonl")
    records = {record.image_id: record for record in read_records(path)}
    assert set(records) == {item.image_id for item in dataset.items}
    assert records["test/7"].scores == tuple(scores_of(7, task).scores.tolist())
    assert sorted(map(int, (tmp_path / "begun").read_text().split())) == list(range(30))
    assert scale_measure._ids(path) == (30, set(records))


@pytest.mark.slow  # starts a local Ray cluster, and a worker a second time after its kill
def test_killed_worker_is_replaced_and_no_image_is_lost(tmp_path: Path) -> None:
    row = scale_measure.measure(12, 2, 400, 0.1, batch=4, scratch=str(tmp_path))
    assert (row["lost"], row["doubled"], row["delivered_twice"]) == (0, 0, 0)
    assert 0 < row["recovery_seconds"]
    assert row["scored_twice"] > 0  # what was in flight there
    assert 0 < row["loop_ms"] <= row["driver_ms"] and row["memory_mib"] < 1024
    assert not [*tmp_path.iterdir()]  # all records are removed
    json.dumps(row)
    assert set(row) == set(scale.COLUMNS)
