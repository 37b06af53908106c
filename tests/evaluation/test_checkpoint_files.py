"""Checkpoints on disk: what folders, patterns and names stand for, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffcls.evaluation.checkpoint_files import find_checkpoints
from diffcls.support.errors import ModelError, UsageError


def model(folder: Path, **card: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text("{}")
    if card:
        (folder / "diffcls.json").write_text(json.dumps(card))
    return folder


def names(*given: str | Path) -> list[str]:
    return [Path(checkpoint.model).name for checkpoint in find_checkpoints([*map(str, given)])]


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A finished training of three snapshots, whose last one has the weights of the model."""
    shelf = tmp_path / "digits" / "training" / "snapshots"
    for images in (300, 100, 200):
        model(shelf / f"{images:08d}", name=f"digits@{images}", images=images, seed=4)
    curve = [{"step": i, "images": i, "validation_accuracy": i / 1000} for i in (100, 200, 300)]
    model(tmp_path / "digits", name="digits", recipe={"images": 310}, curve=curve)
    return tmp_path / "digits"


def test_a_training_stands_for_its_snapshots_by_training_images(training: Path) -> None:
    expected = ["00000100", "00000200", "00000300"]
    assert names(training) == expected
    assert names(training / "training" / "snapshots") == expected
    assert names(training / "training" / "snapshots" / "*2*") == ["00000200"]
    found = find_checkpoints([str(training)])
    assert [(c.name, c.images, c.curve_accuracy) for c in found] == [
        ("digits@100", 100, 0.1),
        ("digits@200", 200, 0.2),
        ("digits@300", 300, 0.3),
    ]


def test_a_model_that_was_trained_on_after_its_last_snapshot_comes_last(training: Path) -> None:
    for path in (training / "training" / "snapshots" / "00000300").iterdir():
        path.unlink()
    found = find_checkpoints([str(training)])
    assert [(c.name, c.images, c.curve_accuracy) for c in found] == [
        ("digits@100", 100, 0.1),
        ("digits@200", 200, 0.2),
        ("digits", 310, 0.3),
    ]


def test_the_curve_of_a_training_that_still_runs_is_read_from_its_file(training: Path) -> None:
    (training / "diffcls.json").unlink()
    (training / "model_index.json").unlink()
    point = {"step": 1, "images": 200, "validation_accuracy": 0.5}
    (training / "training" / "denoiser-curve.jsonl").write_text(json.dumps(point) + "\n")
    assert [c.curve_accuracy for c in find_checkpoints([str(training)])] == [None, 0.5, None]


def test_models_without_a_card_are_ordered_by_their_numbers(tmp_path: Path) -> None:
    for step in (1000, 500, 20):
        model(tmp_path / f"checkpoint-{step}")
    expected = ["checkpoint-20", "checkpoint-500", "checkpoint-1000"]
    assert names(tmp_path) == expected
    assert names(tmp_path / "checkpoint-*") == expected
    # in the order given, and none twice
    assert names(tmp_path / "checkpoint-500", tmp_path) == [
        "checkpoint-500",
        "checkpoint-20",
        "checkpoint-1000",
    ]


def test_only_averaged_weights_of_a_pixel_model_are_compared(tmp_path: Path) -> None:
    shelf = tmp_path / "training" / "snapshots"
    for kind in ("averaged", "last"):
        model(shelf / f"00000100-{kind}", name="x", images=100, weights=kind)
    assert names(tmp_path) == ["00000100-averaged"]
    assert names(shelf / "00000100-last") == ["00000100-last"]


def test_images_of_the_model_that_was_fine_tuned_count(tmp_path: Path) -> None:
    model(tmp_path / "a", name="a", images=5, continued_from={"images": 7})
    assert [c.images for c in find_checkpoints([str(tmp_path / "a")])] == [12]


def test_a_bundled_name_is_a_checkpoint_with_the_end_of_its_curve() -> None:
    (found,) = find_checkpoints(["cifar10"])
    assert (found.name, found.images) == ("cifar10", 2_696_192)
    assert found.curve_accuracy == 0.71


def test_what_holds_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for given in (tmp_path / "empty", tmp_path / "no-*"):
        with pytest.raises(UsageError, match="no checkpoint found"):
            names(given)
    with pytest.raises(UsageError, match="unknown model"):
        names(tmp_path / "missing")
    (model(tmp_path / "damaged") / "diffcls.json").write_text("[")
    with pytest.raises(ModelError):
        names(tmp_path / "damaged")
