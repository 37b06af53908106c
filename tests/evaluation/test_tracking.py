"""Trackers of an evaluation: the numbers of the row reach each, once, below the output folder."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from helpers import wandb_files

from diffcls import run_evaluation
from diffcls.metrics.statistics import wilson_interval
from diffcls.support.errors import UsageError

pytest.importorskip("torch")

SMALL: dict[str, Any] = {
    "method": ("reference",),
    "reference": "nearest-mean",
    "limit": 12,
    "threads": 1,
    "quiet": True,
}


def records(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("runs/*/records-0-of-1.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expected_curve(folder: Path) -> list[tuple[int, float, float]]:
    """(images, accuracy, upper limit) after each record, in the order of the file."""
    curve, right = [], 0
    for n, record in enumerate(records(folder), start=1):
        right += record["ranking"][0] == record["label"]
        curve.append((n, right / n, wilson_interval(right, n)[1]))
    return curve


def tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Points by tag over all event files, by TensorBoard's own reader."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    points: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("tracking/tensorboard/*/events*")):
        events = accumulator.EventAccumulator(str(path)).Reload()
        for tag in events.Tags()["scalars"]:
            points.setdefault(tag, []).extend((e.step, e.value) for e in events.Scalars(tag))
    return points


def test_tensorboard_gets_the_curve_and_the_row_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    options = {**SMALL, "output_dir": str(tmp_path), "log_to": ("tensorboard",)}
    (row,) = run_evaluation(**options)
    (again,) = run_evaluation(**options)
    assert again == row
    points = tensorboard(tmp_path)
    curve = expected_curve(tmp_path)
    assert len(curve) == 12
    for name, column in (("accuracy", 1), ("ci_high", 2)):
        assert points[f"running/{name}"] == [
            (point[0], pytest.approx(point[column], rel=1e-6)) for point in curve
        ]
    for name in ("accuracy", "ci_low", "ci_high", "seconds_per_image", "evaluations_per_image"):
        assert points[f"final/{name}"] == [(12, pytest.approx(row[name], rel=1e-6))]


def test_a_resumed_run_goes_on_behind_its_last_point(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    options = {**SMALL, "output_dir": str(tmp_path), "log_to": ("tensorboard",)}
    run_evaluation(**options)
    (path,) = tmp_path.glob("runs/*/records-0-of-1.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:7]), encoding="utf-8")
    run_evaluation(**options)
    steps = [step for step, _ in tensorboard(tmp_path)["running/accuracy"]]
    assert steps == list(range(1, 13))


def test_a_run_that_was_finished_before_gets_its_final_figures_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run_evaluation(**SMALL, output_dir=str(tmp_path))
    for _ in range(2):
        (row,) = run_evaluation(**SMALL, output_dir=str(tmp_path), log_to=("tensorboard",))
    points = tensorboard(tmp_path)
    assert points["final/accuracy"] == [(12, pytest.approx(row["accuracy"]))]
    assert not any(tag.startswith("running/") for tag in points)


def test_mlflow_gets_them_in_a_store_below_the_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    try:
        (row,) = run_evaluation(**SMALL, output_dir="out", log_to=("mlflow",))
        client = mlflow.MlflowClient(mlflow.get_tracking_uri())
        (experiment,) = client.search_experiments(filter_string="name = 'diffcls'")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.data.metrics["final/accuracy"] == row["accuracy"]
        history = client.get_metric_history(run.info.run_id, "running/accuracy")
        assert [(m.step, m.value) for m in history] == [p[:2] for p in expected_curve(Path("out"))]
        assert run.data.params["fingerprint"] == row["fingerprint"]
        assert run.data.params["dataset"] == "digits" and run.info.status == "FINISHED"
    finally:
        mlflow.set_tracking_uri(before)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_wandb_gets_the_curve_and_the_row_once_off_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("MODE", "DIR", "CONFIG_DIR", "CACHE_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", "")  # so that it is as before at the end
        monkeypatch.delenv(f"WANDB_{name}")
    monkeypatch.chdir(tmp_path)
    (row,) = run_evaluation(**SMALL, output_dir="out", log_to=("wandb",))
    assert run_evaluation(**SMALL, output_dir="out", log_to=("wandb",)) == [row]
    points, config = wandb_files.logged(Path("out"))
    running = [point for point in points if "running/accuracy" in point]
    assert [
        (point["running/step"], point["running/accuracy"], point["running/ci_high"])
        for point in running
    ] == expected_curve(Path("out"))
    (final,) = [point for point in points if "final/accuracy" in point]
    assert final["final/step"] == 12
    for name in ("accuracy", "ci_low", "ci_high", "seconds_per_image", "evaluations_per_image"):
        assert final[f"final/{name}"] == row[name]
    assert config["fingerprint"] == row["fingerprint"] and config["dataset"] == "digits"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_trackers_change_no_number_and_no_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    rows = [
        run_evaluation(**SMALL, output_dir=str(tmp_path / name), log_to=trackers)[0]
        for name, trackers in (("plain", ()), ("tracked", ("tensorboard",)))
    ]
    for name in ("fingerprint", "accuracy", "ci_low", "ece", "setting", "evaluations_per_image"):
        assert rows[0][name] == rows[1][name]
    assert not (tmp_path / "plain" / "tracking").exists()


def test_a_tracker_that_fails_ends_its_log_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tracking").write_text("a file where the folder should be")
    (row,) = run_evaluation(**SMALL, output_dir=str(tmp_path), log_to=("tensorboard",))
    assert row["status"] == "complete" and row["n_scored"] == 12
    warnings = [line for line in capsys.readouterr().err.splitlines() if "--log-to" in line]
    assert len(warnings) == 1 and "tensorboard stopped, the run goes on" in warnings[0]
    with open(tmp_path / "leaderboard.csv", encoding="utf-8", newline="") as file:
        (stored,) = csv.DictReader(file)
    assert math.isclose(float(stored["accuracy"]), row["accuracy"], abs_tol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_to": ("tensorbord",)}, "did you mean 'tensorboard'|tensorboard, wandb, mlflow"),
        ({"log_to": ("tensorboard", "tensorboard")}, "twice"),
        ({"log_to": ("tensorboard",), "multi_label": True}, "--multi-label"),
        ({"json": True, "json_format": "csv"}, "clip_benchmark"),
        ({"json_format": "clip_benchmark"}, "without --json"),
        ({"json": True, "dry_run": True, "json_format": "model-index"}, "--dry-run"),
    ],
)
def test_names_and_formats_are_checked_before_the_work(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        run_evaluation(**SMALL, **options, output_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_missing_is_named_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffcls.integrations import trackers

    monkeypatch.setitem(trackers.PACKAGES, "wandb", "no_such_package")
    with pytest.raises(UsageError, match="pip install no_such_package"):
        run_evaluation(**SMALL, log_to=("wandb",), output_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())
