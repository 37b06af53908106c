"""The unlabelled images that --search learned is fitted on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.learned_runs import (
    SMALL,
    analytic_model,
    first,
    fit_file,
    refused,
    run,
    saved_photos,
)
from PIL import Image

from diffcls.classifiers import fit_images
from diffcls.data.dataset import Dataset, Item
from diffcls.data.load import load_split
from diffcls.evaluation.options import EvaluationOptions
from diffcls.support.cache import read_arrays

__all__ = ["analytic_model", "first", "refused"]


def test_labels_of_the_images_are_never_read(
    first: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Blind(Item):
        """An image whose label cannot be read."""

        @property
        def class_index(self) -> int:
            pytest.fail("a label is read")

    def load(options: EvaluationOptions, split: str) -> Dataset:
        asked.append(split)
        data = load_split(options, split)
        unread = tuple(Blind(i.image_id, 0, i.open) for i in data.items)
        object.__setattr__(data, "items", unread)  # without the checks of labels
        return data

    monkeypatch.setattr(fit_images, "load_split", load)
    row = run(tmp_path, limit=2)
    assert asked == ["train"]  # never the images that are scored
    assert row["setting"] == first[1]["setting"]
    ours, theirs = (read_arrays(fit_file(path), "fit") for path in (tmp_path, first[0]))
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        assert np.array_equal(array, theirs[name]), name


def test_a_folder_of_plain_images_serves_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = saved_photos(tmp_path / "photos", 50)
    (photos / "notes.txt").write_text("no image")
    (photos / "broken.png").write_bytes(b"no image either")
    row = run(tmp_path / "out", fit_folder=str(photos), fit_images=60, limit=3, quiet=False)
    assert row["n_scored"] == 3 and "fit=photos" in row["setting"]
    shown = capsys.readouterr().err
    assert "1 images of the fit cannot be read" in shown
    assert "(12 calibration images)" in shown


def test_a_folder_without_enough_images_is_refused(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    assert "--fit-folder is not a folder" in refused(*SMALL, "--fit-folder", empty)
    empty.mkdir()
    (empty / "notes.txt").write_text("no image")
    assert "--fit-folder contains no image" in refused(*SMALL, "--fit-folder", empty)
    for name in ("a", "b", "c"):
        Image.new("L", (8, 8)).save(empty / f"{name}.png")
    message = refused(*SMALL, "--fit-folder", empty)
    assert "too few" in message and "3" in message and "50" in message


def test_data_without_a_training_split_names_the_folder(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    for k in range(5):
        folder = tmp_path / "own" / "test" / f"class {k}"
        folder.mkdir(parents=True)
        Image.new("L", (8, 8), 40 * k).save(folder / "one.png")
    message = refused(*SMALL, "--dataset", f"folder:{tmp_path / 'own'}", "--model", "digits")
    assert "fitted on unlabelled images of the training split" in message
    assert "--fit-folder" in message


def test_images_that_are_scored_are_never_those_of_the_fit(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    for k in range(6):
        folder = tmp_path / "own" / f"class {k}"
        folder.mkdir(parents=True)
        for i in range(10):
            Image.new("L", (8, 8), 40 * k + i).save(folder / f"{i}.png")
    own = ("--dataset", f"folder:{tmp_path / 'own'}", "--model", "digits")
    own = (*own, "--template", "{}", "--draws", "4", "--no-check-model")
    message = refused(*own, "--candidates", "3")
    assert "--search learned" in message and "not divided into splits" in message
    for flags in (("--class-bias", "10"), ("--combine", "clip"), ("--reject",)):
        message = refused(*own, *flags, search="racing")
        assert f"{flags[0]} is fitted on other images" in message
        assert "not divided into splits" in message
    records = list(tmp_path.glob("refused/runs/*/records-*"))
    assert not any(path.stat().st_size for path in records)
