"""Generation benchmark: its runs, its cache and its page."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.generation import fidelity, fidelity_report
from benchmarks.generation.runs import Run, run_command
from diffcls.runs import fidelity_table

REFERENCE = Path(__file__).parents[2] / "results/reference"


def row(metric: str, value: float, model: str = "m", **more: Any) -> dict[str, Any]:
    row = {"model": model, "dataset": "digits", "split": "test", "extractor": "clip-digits-128"}
    return {**row, "metric": metric, "n": 100, "value": value, "steps": 25, **more}


def test_page_shows_each_figure_in_its_row_and_column(tmp_path: Path) -> None:
    rows = [
        row("FID", 1.5, guidance=2.0, training_images=900),
        row("precision", 0.75, guidance=2.0, training_images=900),
        row("recall", 0.5, guidance=2.0, training_images=900),
        row("FID", 2.5, guidance=1.0, training_images=900),
        row("FID", 55.0, guidance=2.0, training_images=900, extractor="inception-v3-compat-2048"),
        row("FID", 0.5, guidance=2.0, training_images=900, steps=50),
        row("FID", 9.0, "m@100", guidance=2.0, training_images=100),
        row("FID", 12.0, "m@100 not averaged", guidance=2.0, training_images=100),
        row("bits_per_dim", 4.25, "m@100", training_images=100, stderr=0.01),
    ]
    path = tmp_path / "fidelity.csv"
    fidelity_table.put(path, rows)
    fidelity._put_accuracy(path, {("m@100", "digits"): 0.875, ("m@100", "other"): 0.1})
    read = fidelity_table.read(path)
    assert len(read) == len(rows)
    assert [r["accuracy"] for r in read if r["model"] == "m@100"] == ["0.875", "0.875"]
    guided = [
        {
            **{"model": "m", "judge": "clip-digits", "weight": 4.0, "n": 100, "share": 0.66},
            **{"ci_low": 0.56, "ci_high": 0.74, "by_chance": 0.1},
        }
    ]
    fidelity_report.write(read, guided, tmp_path, classified=200)
    page = (tmp_path / "FIDELITY.md").read_text(encoding="utf-8")
    assert "| m | clip-digits-128 | 100 | 1 | 2.500 |" in page
    assert "| m | clip-digits-128 | 100 | 2 | 1.500 |  |  | 0.750 | 0.500 |" in page
    # figures of different extractors or steps are in different rows
    assert "| m | inception-v3-compat-2048 | 100 | 2 | 55.000 |  |  |  |  |  |" in page
    assert "| m | clip-digits-128 | 100 | 2 | 0.500 |  |  |  |  |  |" in page
    assert "clip-digits-128: FID of 100 images on 128 features: its bias is considerable" in page
    start = "100 | averaged | clip-digits-128 | 100 | 2"
    assert f"| {start} | 9.000 |  | 4.250 ± 0.010 | 87.5% (82.2% to 91.4%) |" in page
    assert "| 100 | last | clip-digits-128 | 100 | 2 | 12.000 |" in page
    assert "| 4 | 100 | 66.0% | 56.0% to 74.0% |" in page
    assert (tmp_path / "fidelity.png").stat().st_size > 10_000
    assert (tmp_path / "guided.csv").read_text(encoding="utf-8").count("\n") == 2
    # without newly guided samples, those of guided.csv stay
    fidelity_report.write(read, [], tmp_path, classified=200)
    assert (tmp_path / "FIDELITY.md").read_text(encoding="utf-8") == page


def test_without_snapshots_the_rows_over_training_are_left_out_with_a_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = argparse.Namespace(models=str(tmp_path))
    (one,) = (one for one in fidelity.BENCHMARKS if one.pixels)
    runs = fidelity._runs(one, flags)
    assert {run.model for run in runs} == {"fashion_mnist"}
    message = capsys.readouterr().err
    assert "the rows over training stay as last measured" in message
    assert f"--output-dir {tmp_path}" in message
    (tmp_path / str(one.pixels) / "training" / "snapshots" / "00000100").mkdir(parents=True)
    more = fidelity._runs(one, flags)
    assert more[: len(runs)] == runs
    assert {Path(run.model).name for run in more[len(runs) :]} == {one.pixels, "00000100"}
    assert not capsys.readouterr().err
    assert fidelity.main(["--only", "imagenet"]) == 2


def test_a_finished_run_is_not_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[list[str]] = []

    def output_of(arguments: list[str]) -> str:
        made.append(arguments)
        return '[{"model": "digits", "dataset": "digits", "accuracy": 0.5}]'

    monkeypatch.setattr("benchmarks.generation.runs.output_of", output_of)
    flags = SimpleNamespace(output_dir=str(tmp_path), data_root="there")
    runs = fidelity._runs(fidelity.BENCHMARKS[0], flags)
    assert {(run.command, run.model) for run in runs} == {
        (command, model)
        for command in ("fidelity", "likelihood", "evaluate")
        for model in ("digits", "digits-pixels")
    }
    for _ in range(2):
        results = [run_command(run, flags) for run in runs]
    assert len(made) == len(runs) == len(results)
    assert not any("--data-root" in arguments for arguments in made)  # digits reads none
    run_command(Run("fidelity", "cifar10", ()), flags)
    assert "--data-root" in made[-1]
    of_fidelity = [r for r in runs if r.model == "digits" and r.command != "likelihood"]
    rows = [[{"model": "digits", "dataset": "digits", "accuracy": 0.5}]] * 2
    assert fidelity._accuracies(of_fidelity, rows) == {("digits", "digits"): 0.5}


def test_cached_results_are_put_into_the_table_of_any_output_folder(tmp_path: Path) -> None:
    runs = [Run(name, "m", ()) for name in ("fidelity", "likelihood", "evaluate")]
    results = [
        [row("FID", 1.5, guidance=2.0), row("KID", 0.25, guidance=2.0, stderr=0.125)],
        row("bits_per_dim", 4.25, stderr=0.5, terms={"L_T": 0.0}),
        [{"model": "m", "accuracy": 0.5}],
    ]
    for _ in range(2):
        fidelity._put(tmp_path / "fidelity.csv", runs, results)
    stored = [(r["metric"], r["value"]) for r in fidelity_table.read(tmp_path / "fidelity.csv")]
    assert stored == [("FID", "1.5"), ("KID", "0.25"), ("bits_per_dim", "4.25")]


def test_committed_page_is_that_of_the_committed_tables(tmp_path: Path) -> None:
    for name in ("fidelity.csv", "guided.csv"):
        (tmp_path / name).write_bytes((REFERENCE / name).read_bytes())
    assert fidelity.main(["--report-only", "--output-dir", str(tmp_path)]) == 0
    assert (tmp_path / "FIDELITY.md").read_bytes() == (REFERENCE / "FIDELITY.md").read_bytes()
