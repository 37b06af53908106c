"""Evaluations with --search learned on a model whose errors are known, and their fits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import text_gaussian
from helpers.refusals import refusal

import diffcls
from diffcls import evaluate
from diffcls.classifiers import METHODS, learned_screen
from diffcls.classifiers.base import Built
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts, choose_images

LEARNED = {"search": "learned", "candidates": 3, "fit_images": 50, "fit_classes": 10}
LIMIT, CLASSES = 12, 10


@pytest.fixture(autouse=True)
def analytic_model(monkeypatch: pytest.MonkeyPatch) -> None:
    text_gaussian.use(monkeypatch)


def options(output: Path, **more: Any) -> dict[str, Any]:
    few = {"limit": LIMIT, "draws": 8, "quiet": True, "check_model": False}
    return {"output_dir": str(output), **few, **LEARNED, **more}


def run(output: Path, **more: Any) -> dict[str, Any]:
    (row,) = diffcls.run_evaluation(**options(output, **more))
    return row


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with one complete run, and its row."""
    output = tmp_path_factory.mktemp("learned")
    with pytest.MonkeyPatch.context() as patch:
        text_gaussian.use(patch)
        return output, run(output)


@pytest.fixture
def fits(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A new output folder with the fit of `first` and no run."""
    shutil.copytree(first[0] / "fits", tmp_path / "out" / "fits")
    return tmp_path / "out"


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fit_prediction", "calibrated"):
        monkeypatch.setattr(learned_screen, name, lambda *_: pytest.fail("fitted again"))


def fit_file(output: Path) -> Path:
    (path,) = (output / "fits").glob("learned-screen-*.npz")
    return path


def records(output: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in output.glob("runs/*/records-*.jsonl"):
        for one in map(json.loads, path.read_text().splitlines()):
            assert one["image_id"] not in found
            found[one["image_id"]] = {k: one[k] for k in ("scores", "ranking", "evaluations")}
    return found


def built(given: dict[str, Any]) -> tuple[Built, Dataset]:
    read = EvaluationOptions(**given)
    data, _ = choose_images(read)
    spec = catalog.find(read.dataset)
    return METHODS.load("diffusion").build(read, spec, build_prompts(read, data)), data


def saved_photos(folder: Path, count: int) -> Path:
    """A folder of plain images of the training split, some of them in a subfolder."""
    (folder / "more").mkdir(parents=True)
    for i, item in enumerate(load_dataset("digits", "train").items[:count]):
        item.open().save(folder / ("more" if i % 2 else "") / f"{i}.png")
    return folder


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs the command with refused flags; returns its line on stderr."""

    def command(*flags: object, search: str = "learned") -> str:
        fixed = ["--search", search, "--output-dir", tmp_path / "refused", "--quiet"]
        return refusal(evaluate.main, [*fixed, "--limit", "2", *flags], None, capsys)

    return command


SMALL = ("--candidates", "3", "--fit-images", "50", "--fit-classes", "10")
