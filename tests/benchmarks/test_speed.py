"""Benchmarks of scaling, throughput and forward passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.core.flags import Main
from benchmarks.core.tables import ENVIRONMENTS
from benchmarks.speed import (
    cheaper_evaluations,
    class_heads,
    classes,
    cpu_inference,
    published_speed,
    startup,
    throughput,
)
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
        (cheaper_evaluations.main, "cheaper.csv", "CHEAPER.md"),
        (class_heads.main, "heads.csv", "HEADS.md"),
        (classes.main, "growth.csv", "GROWTH.md"),
        (cpu_inference.main, "kernels.csv", "KERNELS.md"),
        (published_speed.main, "published_speed.csv", "PUBLISHED_SPEED.md"),
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
