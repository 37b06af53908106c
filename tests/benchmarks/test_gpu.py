"""Accelerator benchmark: its networks, counts, order under a time budget, and a trial on a CPU."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.core.tables import read_rows
from benchmarks.speed import gpu, gpu_changes, gpu_counts, gpu_network, gpu_sharing, gpu_timing
from benchmarks.speed.gpu_network import SD_2, SD_35, SDXL, SIZES, tiny
from benchmarks.speed.gpu_plan import OUT_OF_TIME, Step, is_affordable, run_steps
from benchmarks.speed.gpu_report import COLUMNS, PAGE, PEAK

REFERENCE = Path(__file__).parents[2] / "results/reference"


# ---- networks and their counts ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "parameters"),
    [(SD_2, 865_910_724), (SDXL, 2_567_463_684), (SD_35, 2_243_171_520)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_networks_have_the_number_of_weights_of_the_published_ones(
    size: gpu_network.Size, parameters: int
) -> None:
    assert gpu_counts.parameters_of(size) == parameters


def test_operations_of_a_joint_transformer_are_those_of_a_count_by_hand() -> None:
    size = tiny(SD_35)
    n, m, d = (8 // 2) ** 2, size.tokens, 32  # image tokens, prompt tokens, width

    def linear(tokens: int, inputs: int, outputs: int) -> int:
        return 2 * tokens * inputs * outputs

    embeddings = linear(n, 16 * 2 * 2, d) + linear(m, 48, d)
    embeddings += linear(1, 256, d) + linear(1, 24, d) + 2 * linear(1, d, d)  # time, pooled prompt
    attention = 4 * linear(n, d, d) + 3 * linear(m, d, d) + 4 * (n + m) ** 2 * d
    feed_forward = 2 * linear(n, d, 4 * d)
    # the first block has a second attention of the image alone
    first = linear(1, d, 9 * d) + linear(1, d, 6 * d) + attention + linear(m, d, d)
    first += 4 * linear(n, d, d) + 4 * n**2 * d + feed_forward + 2 * linear(m, d, 4 * d)
    # the last one drops the prompt after its attention
    last = linear(1, d, 6 * d) + linear(1, d, 2 * d) + attention + feed_forward
    end = linear(1, d, 2 * d) + linear(n, d, 2 * 2 * 16)
    assert gpu_counts.flops_of(size) == embeddings + first + last + end


@pytest.mark.slow
def test_a_shared_prefix_saves_a_twentieth_of_stable_diffusion_and_keys_and_values_half_a_percent() -> (  # noqa: E501
    None
):
    whole = gpu_counts.flops_of(SD_2)
    shared = gpu_counts.flops_of(SD_2, lambda net, _: gpu_sharing.share_prefix(net, SD_2.prompts))
    cached = gpu_counts.flops_of(SD_2, gpu_sharing.cache_prompts)
    assert whole == pytest.approx(804e9, rel=1e-3)
    # of the rows of a pair, all but one are saved
    assert (whole - shared) / whole == pytest.approx(0.052 * (1 - 1 / SD_2.prompts), abs=0.0005)
    assert (whole - cached) / whole == pytest.approx(0.005, abs=0.0005)


# ---- changes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused projections"])
@pytest.mark.parametrize("downsampled", [False, True], ids=["attention first", "attention later"])
def test_sharing_what_prompts_have_in_common_changes_no_output(
    fused: bool, downsampled: bool
) -> None:
    size = tiny(SD_2)
    if downsampled:  # the prefix goes on through a block without attention
        blocks = {name: tiny(SDXL).config[name] for name in ("down_block_types", "up_block_types")}
        size = replace(size, config={**size.config, **blocks})
    network, inputs = gpu_network.build(size, "cpu"), gpu_network.inputs_of(size, "cpu")
    with torch.no_grad():
        plain = gpu_network.forward(network, inputs)
        count = gpu_counts.count_flops(network, inputs)
        if fused:
            network.fuse_qkv_projections()
        gpu_sharing.share_prefix(network, size.prompts)
        assert gpu_counts.count_flops(network, inputs) < 0.95 * count
        shared = gpu_network.forward(network, inputs)
        gpu_sharing.cache_prompts(network, inputs)
        cached = gpu_network.forward(network, inputs)
    assert torch.allclose(shared, plain, atol=1e-5)
    assert torch.allclose(cached, plain, atol=1e-5)
    # different prompts do give different outputs, so the comparison can fail
    assert float((plain[0] - plain[1]).abs().max()) > 1e-4


def test_rows_are_repeated_in_their_memory_format() -> None:
    x = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    for layout in (torch.contiguous_format, torch.channels_last):
        out = gpu_sharing.repeated(x.to(memory_format=layout), 3)
        assert torch.equal(out, x.repeat_interleave(3, dim=0))
        assert out.is_contiguous(memory_format=layout)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> gpu_changes.NetworkBench:
    """A network of two evaluations per second."""
    monkeypatch.setattr(gpu_changes, "seconds_per_call", lambda *_: 4.0)
    bench = gpu_changes.NetworkBench(tiny(SD_2), "cpu", seconds=1)
    (row,) = bench.baseline()
    assert row["evaluations_per_second"] == 8 / 4 and row["largest_difference"] == 0
    assert row["tflops"] == pytest.approx(2 * gpu_counts.flops_of(tiny(SD_2)) / 1e12)
    return bench


def test_a_change_stays_if_it_is_faster_and_the_answers_are_the_same(
    bench: gpu_changes.NetworkBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(change: gpu_changes.Change, seconds: float) -> dict[str, Any]:
        monkeypatch.setattr(gpu_changes, "seconds_per_call", lambda *_: seconds)
        (row,) = bench.change(change)
        return row

    def wrong(variant: gpu_changes.Variant, size: gpu_network.Size) -> gpu_changes.Variant:
        variant.network.conv_out.weight.mul_(2)
        return variant

    by_name = {change.name: change for change in gpu_changes.CHANGES}
    before = bench.best
    slower = measured(by_name["channels last"], 5.0)
    assert slower["kept"] == "False" and slower["gain"] == pytest.approx(0.8)
    other = measured(gpu_changes.Change("wrong", wrong), 1.0)
    assert (other["kept"], other["note"]) == ("False", "not kept: other answers")
    assert bench.best is before
    half = measured(by_name["bfloat16"], 2.0)
    assert half["kept"] == "True" and half["gain"] == 2 and half["dtype"] == "bfloat16"
    assert 0 < half["largest_difference"] < 0.1
    again = measured(by_name["fused attention kernel"], 1.0)
    assert again["gain"] == 2 and again["dtype"] == "bfloat16"  # on top of the one before


def test_a_change_that_does_not_apply_says_why(bench: gpu_changes.NetworkBench) -> None:
    graph = gpu_changes.CHANGES[-1]
    assert list(bench.change(graph)) == [{"note": "cpu has no CUDA graphs"}]
    assert "joint attention" in gpu_sharing.reason_against_cache(SD_35)
    assert "pooled prompt" in gpu_sharing.reason_against_prefix(SDXL)
    assert not gpu_sharing.reason_against_cache(SDXL)


# ---- order under a time budget ------------------------------------------------------------------


class Clock:
    """Time that passes only where a step says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def step(self, name: str, importance: int, expected: float, taken: float) -> Step:
        def run() -> Iterator[dict[str, Any]]:
            self.now += taken
            yield {"note": "done"}

        return Step("net", name, importance, expected, run)


def test_a_step_waits_for_what_matters_more_and_comes_later() -> None:
    clock = Clock()
    compile_, later = clock.step("compile", 4, 90, 90), clock.step("command", 2, 60, 60)
    assert is_affordable(compile_, [later], left=150)
    assert not is_affordable(compile_, [later], left=149)
    assert is_affordable(later, [compile_], left=60)  # nothing is kept for what matters less


def test_steps_that_take_longer_than_expected_leave_out_what_matters_least() -> None:
    clock = Clock()
    steps = [
        clock.step("first", 1, 10, 70),
        clock.step("compile", 4, 40, 40),
        clock.step("command", 2, 60, 60),
        clock.step("short", 6, 5, 5),
    ]
    rows = {row["measure"]: row for row in run_steps(steps, 140, clock)}
    assert list(rows) == ["first", "compile", "command", "short"]
    assert rows["compile"]["note"] == OUT_OF_TIME and "seconds" not in rows["compile"]
    assert rows["command"] == {
        "network": "net",
        "measure": "command",
        "seconds": 60,
        "note": "done",
    }
    assert rows["short"]["note"] == "done" and clock.now == 135


def test_a_step_that_fails_leaves_its_reason_and_the_others_their_figures() -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield {"batch": 1}
        raise torch.OutOfMemoryError("no memory\nleft")

    clock = Clock()
    steps = [Step("net", "broken", 1, 0, broken), clock.step("next", 1, 0, 1)]
    notes = [row.get("note") for row in run_steps(steps, 10, clock)]
    assert notes == [None, "OutOfMemoryError: no memory", "done"]


def test_everything_fits_into_the_budget_where_it_takes_what_is_expected() -> None:
    steps = list(gpu._steps("cuda", 3.0, False, SIZES))
    essential = [step for step in steps if step.importance <= 5]
    assert sum(step.seconds for step in essential) <= 10 * 60  # of one call on a lent device
    kept = [step for step in steps if step.importance <= 4]
    assert sum(step.seconds for step in kept) <= 60 * gpu.MINUTES
    assert {step.network for step in steps} == {"", *(size.name for size in SIZES)}
    # the most important network is measured first, cheap changes before compilation
    names = [step.measure for step in steps if step.network == SD_2.name]
    assert names.index("cached keys and values of prompts") < names.index("compiled, static shapes")


# ---- the command --------------------------------------------------------------------------------


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
    assert gpu_timing.data_sheet_peak(device) == peak


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "cuda"], "--device needs CUDA, which is not available"),
        (["--device", "cpu", "--minutes", "0"], "--minutes out of range"),
        (["--device", "cpu", "--seconds", "-1"], "--seconds out of range"),
        (["--report-only"], "--report-only needs stored results"),
    ],
)
def test_bad_usage_is_refused_in_one_line(
    flags: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([*flags, "--output-dir", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_each_row_is_written_as_soon_as_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_away(*_: Any) -> Iterator[dict[str, Any]]:
        yield {"device": "cpu", "measure": PEAK, "tflops": 0.5, "dtype": "bfloat16", "batch": 64}
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "measure", taken_away)
    assert gpu.main(["--device", "cpu", "--output-dir", str(tmp_path)]) == 130
    (row,) = read_rows(tmp_path / "gpu-cpu.csv")
    assert row["tflops"] == 0.5


def test_shares_are_of_the_measured_peak_and_of_the_data_sheet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def steps(*_: Any) -> Iterator[Step]:
        yield Step("", PEAK, 0, 0, lambda: [{"tflops": 800.0}])
        yield Step("net", "bfloat16", 1, 0, lambda: [{"tflops": 200.0}])

    monkeypatch.setattr(gpu, "_steps", steps)
    name = "NVIDIA H100 80GB HBM3"
    monkeypatch.setattr("diffcls.support.environment.describe_device", lambda _: name)
    row = list(gpu.measure("cuda", 60, 1))[1]
    assert row["share_of_measured_peak"] == 0.25 and row["device"] == name
    assert row["share_of_data_sheet_peak"] == pytest.approx(200 / 989)


def test_committed_page_is_that_of_the_committed_tables(tmp_path: Path) -> None:
    for table in REFERENCE.glob("gpu-*.csv"):
        (tmp_path / table.name).write_bytes(table.read_bytes())
        with table.open(encoding="utf-8", newline="") as file:
            assert tuple(next(csv.reader(file))) == tuple(COLUMNS)
    assert gpu.main(["--report-only", "--output-dir", str(tmp_path)]) == 0
    assert (tmp_path / PAGE).read_bytes() == (REFERENCE / PAGE).read_bytes()


LACKING = ("CUDA graphs", "prompt", "no conv", "dual attention")
"""Words of the reasons why a CPU or a network lacks a measurement."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_measurement_runs_in_miniature_on_a_cpu(tmp_path: Path) -> None:
    flags = ["--device", "cpu", "--tiny", "--seconds", "0.05", "--minutes", "60"]
    assert gpu.main([*flags, "--output-dir", str(tmp_path)]) == 0
    (table,) = tmp_path.glob("gpu-cpu*.csv")
    rows = read_rows(table)
    expected = [(step.network, step.measure) for step in gpu._steps("cpu", 0.05, True, SIZES)]
    found = [(row["network"] or "", row["measure"]) for row in rows]
    assert set(expected) <= {
        *found,
        (f"{SD_2.name}, tiny", f"larger batch: {2 * tiny(SD_2).batch}"),
    }
    for row in rows:
        assert row["torch"] == torch.__version__ and row["device"].startswith("cpu")
        figure = row["tflops"] if row["measure"] == PEAK else row["evaluations_per_second"]
        if figure is None:  # what a CPU or the network does not have
            assert any(reason in row["note"] for reason in LACKING)
        else:
            assert figure > 0, row
    same = [row for row in rows if row["largest_difference"] is not None]
    assert len(same) >= 3 * 4 and all(row["largest_difference"] < 0.1 for row in same)
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "whole command, racing, 37 classes" in page and "published procedure" in page
