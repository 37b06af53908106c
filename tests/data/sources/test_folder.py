"""``folder:PATH``: classes, splits and ids of a folder of images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.datasets import ids
from PIL import Image

from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError

GRAY = Image.new("L", (4, 4), 128)


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    GRAY.save(path)


@pytest.mark.parametrize("folder", ["test", "val", "validation", ""])
def test_folder_of_the_split_is_read_if_there_is_one(tmp_path: Path, folder: str) -> None:
    write(tmp_path / folder / "b_dog" / "2.png")
    write(tmp_path / folder / "b_dog" / "1.JPG")
    write(tmp_path / folder / "a cat" / "more" / "3.png")
    (tmp_path / folder / "a cat" / "notes.txt").write_text("no image")
    (tmp_path / folder / ".hidden").mkdir()
    if folder:
        write(tmp_path / "train" / "zebra" / "9.png")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.class_names == ("a cat", "b_dog")
    assert [(i.image_id, i.label) for i in dataset.items] == [
        ("a cat/more/3.png", 0),
        ("b_dog/1.JPG", 1),
        ("b_dog/2.png", 1),
    ]
    assert dataset.name == f"folder:{tmp_path.name}"
    assert np.asarray(dataset.items[0].open()).tolist() == [[[128] * 3] * 4] * 4


def test_test_folder_takes_precedence_over_validation_folders(tmp_path: Path) -> None:
    for split in ("validation", "val", "test"):
        for name in ("a", "b"):
            write(tmp_path / split / name / f"{split}.png")
        assert ids(load_dataset(f"folder:{tmp_path}"))[0] == f"a/{split}.png"
    assert ids(load_dataset(f"folder:{tmp_path}", "validation"))[0] == "a/validation.png"


def test_folders_of_splits_are_not_classes(tmp_path: Path) -> None:
    for split in ("test", "val"):
        for name in ("a", "b"):
            write(tmp_path / split / name / "1.png")
    with pytest.raises(DataError, match=r"no folder of this split: 'train'; allowed: test, val;"):
        load_dataset(f"folder:{tmp_path}", "train")
    write(tmp_path / "tram" / "1.png")  # beside other folders, train is a class
    (tmp_path / "test").rename(tmp_path / "train")
    (tmp_path / "val").rename(tmp_path / "car")
    assert load_dataset(f"folder:{tmp_path}").class_names == ("car", "train", "tram")


def test_unreadable_image_is_an_error_when_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "1.png")
    locked, original_open = tmp_path / "a" / "1.png", open

    def guarded(path: Any, *mode: Any, **options: Any) -> Any:
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied")
        return original_open(path, *mode, **options)

    monkeypatch.setattr("builtins.open", guarded)
    first, second = load_dataset(f"folder:{tmp_path}").items
    with pytest.raises(DataError, match="cannot read image"):
        first.open()
    assert second.open().size == (4, 4)


def test_revision_depends_on_names_and_content_but_not_on_the_path(tmp_path: Path) -> None:
    for root in ("one", "two", "three", "four"):
        write(tmp_path / root / "a" / "1.png")
        write(tmp_path / root / "b" / "1.png")
    Image.new("L", (4, 4), 129).save(tmp_path / "three" / "b" / "1.png")
    os.rename(tmp_path / "four" / "b" / "1.png", tmp_path / "four" / "b" / "2.png")
    one, two, three, four = (
        load_dataset(f"folder:{tmp_path / root}").revision
        for root in ("one", "two", "three", "four")
    )
    assert one == two
    assert len({one, three, four}) == 3


def test_file_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.png")
    write(tmp_path / "b" / "1.png")
    with open(os.fsencode(tmp_path / "b") + b"/\xff.png", "wb") as file:
        GRAY.save(file, "PNG")
    dataset = load_dataset(f"folder:{tmp_path}")
    assert len(dataset) == 3
    assert "".join(ids(dataset)).encode("utf-8")
    assert [item.open().size for item in dataset.items] == [(4, 4)] * 3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root: None, "image folder not found"),
        (lambda root: root.mkdir(), "image folder contains no image"),
        (lambda root: (root / "a").mkdir(parents=True), "image folder contains no image"),
        (lambda root: write(root / "a" / "1.png"), "two classes or more"),
    ],
    ids=["missing", "empty", "empty class", "one class"],
)
def test_folder_with_fewer_than_two_classes_is_an_error(
    tmp_path: Path, build: Callable[[Path], Any], message: str
) -> None:
    build(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        load_dataset(f"folder:{tmp_path / 'set'}")
