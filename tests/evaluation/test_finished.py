"""Finished runs: the same row from the records, without a model and without torch."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import diffcls
from diffcls import evaluate
from diffcls.evaluation import run as running
from diffcls.models import devices
from diffcls.runs import leaderboard

Pipelines = Callable[[str], Path]
SMALL = {"limit": 3, "draws": 4, "quiet": True, "check_model": False, "device": "cpu"}
CODE = """
import json, sys
import diffcls
rows = diffcls.run_evaluation(**json.loads(sys.argv[1]))
print(json.dumps([rows, "torch" in sys.modules]))
"""


@pytest.fixture
def options(tiny_pipeline: Pipelines, tmp_path: Path) -> dict[str, Any]:
    model = str(tiny_pipeline("v_prediction"))
    return {**SMALL, "model": model, "output_dir": str(tmp_path / "out")}


def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the methods that are built from now on."""
    names: list[str] = []
    make_plan = running.make_plan

    def noted(name: str, *rest: Any) -> Any:
        names.append(name)
        return make_plan(name, *rest)

    monkeypatch.setattr(running, "make_plan", noted)
    return names


def test_finished_run_is_reported_without_torch(options: dict[str, Any]) -> None:
    rows = diffcls.run_evaluation(**options)
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(options)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    again, loaded = json.loads(done.stdout)
    assert not loaded
    assert again == rows


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"template": "a {}"},
        {"img_size": 64},
        {"dtype": "bfloat16"},
        *(
            pytest.param(change, marks=pytest.mark.slow)
            for change in ({"draws": 5}, {"limit": 4}, {"loss": "l1"}, {"weighting": "snr"})
        ),
    ],
    ids=str,
)
def test_other_run_is_not_taken_for_the_finished_one(
    change: dict[str, Any], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = diffcls.run_evaluation(**options)
    names = built(monkeypatch)
    (other,) = diffcls.run_evaluation(**{**options, **change})
    assert names == ["diffusion"]
    assert other["fingerprint"] != first["fingerprint"]
    # and each is found again
    assert diffcls.run_evaluation(**{**options, **change}) == [other]
    assert diffcls.run_evaluation(**options) == [first]
    assert names == ["diffusion"]


def test_requested_image_size_is_not_taken_for_the_models_own(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (large,) = diffcls.run_evaluation(**options, img_size=64)
    (own,) = diffcls.run_evaluation(**options)
    assert own["fingerprint"] != large["fingerprint"]


def test_run_with_images_left_is_resumed(options: dict[str, Any]) -> None:
    (first,) = diffcls.run_evaluation(**options, shard="0/2")
    assert first["status"] == "partial"
    assert diffcls.run_evaluation(**options, shard="0/2") == [first]
    (whole,) = diffcls.run_evaluation(**options)
    assert (whole["status"], whole["n_scored"]) == ("complete", 3)


def test_run_of_an_earlier_version_is_found_by_its_model(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = diffcls.run_evaluation(**options)
    (path,) = Path(options["output_dir"]).glob("runs/*/run.json")
    header = json.loads(path.read_text())
    del header["img_size"]  # as diffcls 0.1 wrote it
    path.write_text(json.dumps(header))
    names = built(monkeypatch)
    assert diffcls.run_evaluation(**options) == rows
    assert names == ["diffusion"]


def test_precision_on_an_accelerator_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.setattr(devices.os.path, "exists", lambda path: path == "/dev/nvidiactl")
    assert devices.dtype_without_torch("auto", "auto") is None
    assert devices.dtype_without_torch("auto", "cuda") is None
    assert devices.dtype_without_torch("auto", "cpu") == "float32"
    monkeypatch.setattr(devices.os.path, "exists", lambda path: False)
    assert devices.dtype_without_torch("auto", None) == "float32"
    assert devices.dtype_without_torch("bfloat16", "auto") == "bfloat16"
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    assert devices.dtype_without_torch("auto", "auto") is None


def test_published_rows_are_printed_after_measured_ones_and_not_stored(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", options["model"], "--output-dir", options["output_dir"]]
    flags += ["--limit", "3", "--draws", "4", "--quiet", "--published"]
    assert evaluate.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("digits") and "measured" in lines[2]
    assert sum("published" in line for line in lines[:-1]) == 46
    assert evaluate.main([*flags, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["source"] for row in rows[:2]] == ["measured", "published"]
    assert rows[1:] == leaderboard.published_rows()
    with open(Path(options["output_dir"]) / "leaderboard.csv", encoding="utf-8") as file:
        assert [row["source"] for row in csv.DictReader(file)] == ["measured"]


def test_arguments_are_visible_to_an_editor() -> None:
    import inspect

    from diffcls.evaluation.options import EvaluationOptions

    shown = inspect.signature(diffcls.run_evaluation).parameters
    assert list(shown) == [*EvaluationOptions.__dataclass_fields__, "report"]
    assert shown["dataset"].default == "digits"
