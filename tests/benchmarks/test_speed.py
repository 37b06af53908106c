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
    gpu,
    gpu_network,
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


def test_accelerator_benchmark_also_runs_on_a_cpu() -> None:
    optimisations = dict(gpu.OPTIMISATIONS)
    try:
        for name in [name for name in gpu.OPTIMISATIONS if name.startswith("compiled")]:
            del gpu.OPTIMISATIONS[name]  # half a minute each
        rows = list(gpu.measure("cpu", (2, 4), seconds=0.01, tiny=True))
    finally:
        gpu.OPTIMISATIONS.update(optimisations)
    measures = [row["measure"] for row in rows]
    assert measures[0] == "baseline" and measures[-1] == "all kept, larger batch"
    assert all(row["evaluations_per_second"] > 0 for row in rows)
    # a share is reported only if the peak of the device is known
    assert all(row["share_of_peak"] is None for row in rows)
    differences = {row["measure"]: row["largest_difference"] for row in rows[:-1]}
    assert differences["baseline"] == 0 and differences["channels last"] < 0.1
    assert 0 < differences["bfloat16"] < 0.5


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA GeForce RTX 4090", 165.0),
        ("NVIDIA L40", 181.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA GB200", None),
    ],
)
def test_peak_is_found_by_the_words_of_the_device_name(device: str, peak: float | None) -> None:
    assert gpu_network.peak_of(device) == peak


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
