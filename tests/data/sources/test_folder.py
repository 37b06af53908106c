"""``folder:PATH``: classes, splits and ids of a folder of images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.datasets import ids
from helpers.image_folders import THREE, in_folders, tree
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
    for split in ("validation", "test"):
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


def test_single_folder_named_train_beside_others_is_the_class(tmp_path: Path) -> None:
    for name in ("car/1.png", "train/steam/1.png", "tram/1.png"):
        write(tmp_path / name)
    assert load_dataset(f"folder:{tmp_path}").class_names == ("car", "train", "tram")
    write(tmp_path / "train" / "diesel" / "1.png")  # or the training split, so neither
    with pytest.raises(DataError, match=r"no folder of this split: 'test'; allowed: train;"):
        load_dataset(f"folder:{tmp_path}")


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


# ---- what lies beside the images -----------------------------------------------------------------


def test_what_is_passed_over_is_counted_and_no_part_of_the_revision(tmp_path: Path) -> None:
    name = tree(tmp_path, THREE)
    clean = load_dataset(name)
    assert clean.passed_over == {}
    tree(tmp_path, [".DS_Store", "__MACOSX/cat/._1.png", "cat/.ipynb_checkpoints/0.png"], b"")
    tree(tmp_path, ["cat/._0.png", "dog/Thumbs.db", "README", "labels.txt"], b"")
    tree(tmp_path, ["stray.png"])
    data = load_dataset(name)
    assert (ids(data), data.revision, data.class_names) == (
        ids(clean),
        clean.revision,
        clean.class_names,
    )
    assert data.passed_over == {
        "hidden or system files and folders": 4,
        "*.db": 1,
        "other files without suffix": 1,
        "*.txt": 1,
        "images outside the class folders": 1,
    }


def test_folders_without_images_are_no_candidates(tmp_path: Path) -> None:
    name = tree(tmp_path, THREE)
    tree(tmp_path, ["annotations/0.xml"], b"<xml/>")
    (tmp_path / "empty").mkdir()
    data = load_dataset(name)
    assert data.class_names == ("cat", "dog", "owl")
    assert data.passed_over == {
        "*.xml": 1,
        "folder without images: annotations": 1,
        "folder without images: empty": 1,
    }
    for i in range(8):
        (tmp_path / f"empty{i}").mkdir()
    assert load_dataset(name).passed_over["further folders without images"] == 5


def test_folders_without_images_that_leave_one_class_are_refused(tmp_path: Path) -> None:
    name = tree(tmp_path, ["cat/1.png"])
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match=r"too few classes with images in .*: \['cat'\]"):
        load_dataset(name)


def test_folders_beside_the_splits_are_counted(tmp_path: Path) -> None:
    data = load_dataset(tree(tmp_path, [*in_folders("train", "test"), "extra/1.png"]))
    assert data.passed_over == {"folders beside the split folders": 1}


# ---- tables beside class folders -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_table_without_sentences_beside_class_folders_is_passed_over(
    tmp_path: Path, kind: str
) -> None:
    name = tree(tmp_path, THREE)
    clean = load_dataset(name)
    text = "file_name,label\ncat/0.png,text\n"
    if kind == "jsonl":
        text = '{"file_name": "cat/0.png", "label": "text"}\n'
    (tmp_path / f"metadata.{kind}").write_text(text)
    data = load_dataset(name)
    assert (ids(data), data.revision) == (ids(clean), clean.revision)
    assert data.passed_over == {f"metadata.{kind} without columns file_name and text": 1}


def test_table_with_sentences_beside_class_folders_is_read(tmp_path: Path) -> None:
    name = tree(tmp_path, THREE)
    (tmp_path / "metadata.csv").write_text("file_name,text\ncat/0.png,a cat\ndog/0.png,a dog\n")
    data = load_dataset(name)
    assert data.sentences and data.class_names == ("a cat", "a dog")
    assert data.prompt_names == ()
    assert data.passed_over == {"images without a row in metadata.csv": 4}


def test_table_without_sentences_and_without_class_folders_says_what_is_missing(
    tmp_path: Path,
) -> None:
    name = tree(tmp_path, ["1.png", "2.png"])
    (tmp_path / "metadata.csv").write_text("file_name,label\n1.png,cat\n")
    with pytest.raises(DataError, match=r"lacks the column text.*allowed: file_name, text"):
        load_dataset(name)
