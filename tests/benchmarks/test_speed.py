"""Benchmarks of scaling, throughput and forward passes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.core.flags import Main
from benchmarks.core.tables import ENVIRONMENTS
from benchmarks.speed import (
    class_heads,
    classes,
    classes_report,
    cpu_inference,
    startup,
    throughput,
)
from diffcls.metrics.statistics import mcnemar_exact
from diffcls.search.gradient import Gradient
from diffcls.support.errors import DiffclsError

REFERENCE = Path(__file__).parents[2] / "results/reference"


def test_forward_passes_are_counted_with_their_padding() -> None:
    plan = throughput.plan_of(
        dataset="digits", limit=3, search="exhaustive", draws=3, batch_size=32
    )
    with throughput.metered(plan.built.method.denoiser) as meter:
        answers = list(plan.built.method.classify(plan.dataset.items))
    assert sum(answer.evaluations for answer in answers) == 90
    assert meter.rows == 96 and meter.shapes == {32} and meter.last > meter.first > 0
    assert "predict" not in vars(plan.built.method.denoiser)


def test_a_row_of_the_scaling_benchmark_is_measured() -> None:
    row = classes.measure("classes", classes=12, search="gradient", images=2, batch=8)
    compared = {"recall", "lost_to_racing", "mcnemar_p_vs_racing"}
    assert set(row) == set(classes.COLUMNS) - compared | {"predicted", "raced", "labels"}
    assert row["images"] == 2 and 0 <= row["ci_low"] <= row["accuracy"] <= row["ci_high"] <= 1
    # two draws of three evaluations screen 12 classes to 6, which race for at least two draws
    assert row["evaluations_per_image"] >= 2 * 3 + 2 * 6
    assert {len(raced) for raced in row["raced"].values()} == {Gradient().candidates}


def scaling_row(search: str, predicted: str, raced: list[Any], count: int, **more: Any) -> Any:
    """A row of `classes.measure` on four images."""
    row = dict.fromkeys(classes.COLUMNS) | {"what": "classes", "classes": count, "search": search}
    numbers = {"images": 4, "batch": 64, "accuracy": 0.5, "ci_low": 0.1, "ci_high": 0.9}
    speeds = {"images_per_second": 1.0, "evaluations_per_second": 50.0, "setup_seconds": 0.1}
    answers = {"predicted": dict(zip("abcd", map(int, predicted), strict=True))}
    answers |= {
        "raced": dict(zip("abcd", raced, strict=True)),
        "labels": {"a": 0, "b": 1, "c": 2, "d": 3},
    }
    return row | numbers | speeds | answers | more


def test_searches_are_compared_with_racing_image_by_image(tmp_path: Path) -> None:
    race = ("racing", "0127", [None] * 4)
    screen = ("gradient", "0553", [[0, 5], [5, 1], [5, 4], [3, 9]])
    rows = classes.compare_with_racing(
        [
            scaling_row(*race, 100, evaluations_per_image=200.0, memory_mib=50.0),
            scaling_row(*race, 1000, evaluations_per_image=2000.0, memory_mib=60.0),
            scaling_row(*screen, 1000, evaluations_per_image=75.0, memory_mib=75.0),
            scaling_row(*screen, 100, evaluations_per_image=50.0, memory_mib=50.0),
        ]
    )
    # racing is correct on a, b, c; gradient on a, d; its screen keeps racing's class on a, b
    assert rows[2]["recall"] == 0.5 and rows[2]["lost_to_racing"] == 0.25
    assert rows[2]["mcnemar_p_vs_racing"] == pytest.approx(
        mcnemar_exact([1, 0, 0, 1], [1, 1, 1, 0])
    )
    assert rows[1]["lost_to_racing"] == 0 and rows[1]["recall"] == 1
    classes.save(rows, tmp_path)
    classes_report.write_page(classes.read_rows(tmp_path / "growth.csv"), tmp_path)
    page = (tmp_path / "GROWTH.md").read_text(encoding="utf-8")
    assert "| 50.0% | +25.0% | 1.000 |" in page
    text = "1,000 classes take 1.50 times the memory of 100 and 1.5 times the evaluations of 100."
    assert f"- `gradient`: {text}" in page
    with open(tmp_path / "growth.csv", encoding="utf-8") as file:
        assert tuple(next(csv.reader(file))) == classes.COLUMNS


def test_all_variants_of_a_forward_pass_compute_the_same() -> None:
    all_variants = cpu_inference.variants("digits", compiled=False)
    outs = []
    for variant in all_variants:
        with variant.context():
            outs.append(variant.call().detach().clone())
    assert len({variant.name for variant in all_variants}) == len(all_variants) >= 6
    for variant, out in zip(all_variants, outs, strict=True):
        assert torch.allclose(out, outs[0], atol=2e-4), variant.name


def test_cpu_time_is_that_of_the_process_and_not_of_waiting() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    assert 0.3 <= startup.cpu_seconds(["-c", busy]) < 1
    assert startup.cpu_seconds(["-c", "import time; time.sleep(0.5)"]) < 0.4


def test_failing_process_has_no_cpu_time() -> None:
    with pytest.raises(DiffclsError, match="exit status 3"):
        startup.cpu_seconds(["-c", "raise SystemExit(3)"])


def test_startup_is_compared_with_the_fastest_process_of_the_imports(tmp_path: Path) -> None:
    seconds = {
        startup.FINISHED: [0.9, 0.5, 0.6],
        startup.FIRST_RECORD: [6.0, 5.0, 5.5],
        startup.IMPORTS: [5.0, 4.5, 4.0],
    }
    rows = {row["measure"]: row for row in startup.rows_of(seconds)}
    assert rows[startup.FINISHED]["cpu_seconds"] == 0.5
    assert rows[startup.FINISHED]["median_cpu_seconds"] == 0.6
    assert rows[startup.FIRST_RECORD]["against_imports"] == 1.25
    assert rows[startup.FIRST_RECORD]["limit"] == pytest.approx(4.8)
    startup.record_environment(tmp_path, "startup", run="--limit 5")
    startup.write_page(list(rows.values()), tmp_path)
    page = (tmp_path / "STARTUP.md").read_text(encoding="utf-8")
    assert "| finished run | 0.50 (0.60) | 0.12× | 2.00 | yes |" in page
    assert "| first record | 5.00 (5.50) | 1.25× | 4.80 | no |" in page
    assert "| imports alone | 4.00 (4.50) | 1.00× | | |" in page


@pytest.mark.parametrize(
    ("main", "table", "page"),
    [
        (class_heads.main, "heads.csv", "HEADS.md"),
        (classes.main, "growth.csv", "GROWTH.md"),
        (cpu_inference.main, "kernels.csv", "KERNELS.md"),
        (startup.main, "startup.csv", "STARTUP.md"),
        (throughput.main, "overhead.csv", "OVERHEAD.md"),
    ],
)
def test_committed_page_is_that_of_the_committed_table(
    main: Main, table: str, page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--report-only", "--output-dir", str(tmp_path)]
    assert main(arguments) == 2
    assert "--report-only needs stored results" in capsys.readouterr().err
    for name in (table, ENVIRONMENTS):
        (tmp_path / name).write_bytes((REFERENCE / name).read_bytes())
    assert main(arguments) == 0
    assert (tmp_path / page).read_bytes() == (REFERENCE / page).read_bytes()
    # the table is only read
    assert (tmp_path / table).read_bytes() == (REFERENCE / table).read_bytes()
