"""Memory of a run: refused before loading where it does not fit, and shown by a dry run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffcls import evaluate
from diffcls.models import loading, memory_check
from diffcls.models.forecast import Workload, forecast
from diffcls.models.loading import WEIGHTS
from diffcls.support.errors import UsageError

ARGUMENTS = ["--limit", "2", "--draws", "2", "--no-check-model", "--device", "cpu"]


@pytest.fixture
def never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(loading, "open_pipeline", refuse)


def has_free(monkeypatch: pytest.MonkeyPatch, size: int | None) -> None:
    monkeypatch.setattr(memory_check, "free_memory", lambda *_, **__: size)


def run(tmp_path: Path, *arguments: str) -> int:
    return evaluate.main([*ARGUMENTS, "--output-dir", str(tmp_path / "out"), *arguments])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    return lines[-1]


@pytest.mark.usefixtures("never_loaded")
def test_a_model_that_cannot_fit_is_refused_before_loading_with_the_flags_by_which_it_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    has_free(monkeypatch, 20_000_000)
    assert run(tmp_path) == 2
    text = error_of(capsys)
    assert "--model does not fit on cpu: evaluating 64 rows needs 23.9 MB" in text
    assert "20.0 MB are free" in text
    assert "add --batch-size 16 (" in text and "or --dtype bfloat16 (" in text
    assert "--no-check-memory" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("never_loaded")
def test_where_no_flag_suffices_alone_a_combination_that_fits_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    has_free(monkeypatch, 7_500_000)
    assert run(tmp_path) == 2
    assert "add --dtype bfloat16 --vae-slicing --batch-size 1 (" in error_of(capsys)


@pytest.mark.usefixtures("never_loaded")
def test_where_nothing_suffices_the_memory_that_would_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    has_free(monkeypatch, 1_000_000)
    assert run(tmp_path) == 2
    assert "choose a device with" in error_of(capsys)


def test_the_flags_that_a_refusal_names_are_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    has_free(monkeypatch, 20_000_000)
    assert run(tmp_path, "--batch-size", "16", "--quiet") == 0


@pytest.mark.parametrize("free", [None, 1])
def test_a_model_is_loaded_where_memory_is_unknown_or_not_to_be_checked(
    free: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    has_free(monkeypatch, free)
    flags = ["--quiet"] if free is None else ["--quiet", "--no-check-memory"]
    assert run(tmp_path, *flags) == 0


def test_a_dry_run_shows_the_memory_as_a_table_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--dry-run", "--batch-size", "8") == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)
    memory = row["memory"]
    parts = {part["part"]: part for part in memory["parts"]}
    assert memory["parameters"] == sum(part["parameters"] for part in parts.values())
    assert memory["batch_size"] == 8 and memory["img_size"] == 32
    assert row["evaluations_per_second"] > 0
    lines = err.splitlines()
    assert any("memory forecast, 32 px, float32 on cpu, " in line for line in lines)
    (unet,) = [line for line in lines if line.startswith("unet ")]
    assert f"{parts['unet']['parameters']:,}" in unet


def test_a_dry_run_shows_the_memory_of_a_model_that_it_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    has_free(monkeypatch, 1_000_000)
    assert run(tmp_path, "--dry-run") == 2
    assert "evaluating 64 rows" in capsys.readouterr().err


def fingerprint(tmp_path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[str, Any]:
    capsys.readouterr()
    assert run(tmp_path, "--dry-run", "--quiet", *flags) == 0
    (row,) = json.loads(capsys.readouterr().out)
    return row["fingerprint"], row["spec"]


@pytest.mark.slow
def test_tiles_are_part_of_the_specification_where_they_change_the_latents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The digits' autoencoder has tiles of 32 px."""
    plain, spec = fingerprint(tmp_path, capsys)
    assert "vae_tiling" not in spec and "quantize" not in spec
    for flags in (["--vae-slicing"], ["--vae-tiling"]):
        assert fingerprint(tmp_path, capsys, *flags)[0] == plain
    tiled, spec = fingerprint(tmp_path, capsys, "--vae-tiling", "--img-size", "64")
    assert spec["vae_tiling"] is True
    assert tiled != fingerprint(tmp_path, capsys, "--img-size", "64")[0]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--offload", "encoders"], "--offload has no effect on a CPU"),
        (["--device-map", "balanced"], "--device-map spreads a model over several GPUs"),
        (["--quantize", "all"], "--quantize is not PARTS:BITS"),
        (["--method", "sd-features", "--vae-tiling"], "--vae-tiling has no effect here"),
        (["--method", "clip", "--offload", "encoders"], "--offload has no effect here"),
    ],
)
def test_flags_without_effect_are_refused_by_name(
    flags: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*flags, "--limit", "2", "--device", "cpu", "--output-dir", str(tmp_path / "out")]
    assert evaluate.main(arguments) == 2
    assert text in error_of(capsys)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++ on a CPU")
def test_a_compiled_run_gives_the_same_scores_and_a_resumed_one_keeps_its_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--batch-size", "8", "--search", "exhaustive", "--save-errors"]
    assert run(tmp_path, *flags, str(tmp_path / "plain")) == 0
    shutil.move(tmp_path / "out", tmp_path / "first")
    assert run(tmp_path, *flags, str(tmp_path / "compiled"), "--compile") == 0
    (header,) = (tmp_path / "out" / "runs").glob("*/run.json")
    assert json.loads(header.read_text())["compiled"] is True
    (other,) = (tmp_path / "first" / "runs").glob("*/run.json")
    assert header.parent.name == other.parent.name
    tables = [sorted((tmp_path / name).rglob("*.npz")) for name in ("plain", "compiled")]
    for plain, compiled in zip(*tables, strict=True):
        a, b = (np.load(path)["errors"] for path in (plain, compiled))
        np.testing.assert_allclose(a, b, atol=1e-5)
    capsys.readouterr()
    assert run(tmp_path, "--batch-size", "8", "--search", "exhaustive") == 0
    assert "the run goes on with --compile" in capsys.readouterr().err


# ---- several GPUs -------------------------------------------------------------------------------


def on_two_gpus(monkeypatch: pytest.MonkeyPatch, each: int) -> Workload:
    """A run of a model on the first of two GPUs, with `each` bytes free on either."""
    free = {False: each, True: 2 * each}
    monkeypatch.setattr(memory_check, "free_memory", lambda _, all_gpus=False: free[all_gpus])
    monkeypatch.setattr(memory_check, "_gpus", lambda _: 2)
    return Workload(device="cuda", dtype=torch.float32, batch_size=1, img_size=32)


def test_a_model_that_fits_two_gpus_is_advised_to_be_spread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = memory_check.index_of("digits")
    work = on_two_gpus(monkeypatch, 10_000_000)
    with pytest.raises(UsageError, match=r"fit on cuda: .* 10\.0 MB are free; add --device-map"):
        memory_check.check_memory(forecast(index, work))


def test_a_model_that_is_spread_may_need_what_all_gpus_have_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = memory_check.index_of("digits")
    for each, fits in ((10_000_000, True), (5_000_000, False)):
        work = on_two_gpus(monkeypatch, each)
        work = replace(work, options=replace(work.options, device_map="balanced"))
        if fits:
            memory_check.check_memory(forecast(index, work))
        else:
            with pytest.raises(UsageError, match=r"fit on all GPUs together: .* 10\.0 MB are free"):
                memory_check.check_memory(forecast(index, work))


def test_flags_that_a_controlnet_excludes_are_not_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    index = memory_check.index_of("digits")
    work = replace(on_two_gpus(monkeypatch, 10_000), control=WEIGHTS / "control-scenes")
    with pytest.raises(UsageError) as refusal:
        memory_check.check_memory(forecast(index, work))
    assert "choose a device with" in str(refusal.value)
    assert not any(flag in str(refusal.value) for flag in ("offload", "quantize", "device-map"))
