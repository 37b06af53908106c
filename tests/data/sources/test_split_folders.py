"""Split folders: spellings, fallbacks, and folders whose split is ambiguous or unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.datasets import ids
from helpers.image_folders import THREE, encoded, in_folders, tree

from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN", "train2017", "training_set"])
@pytest.mark.parametrize("test", ["test", "Testing", "eval", "Evaluation", "test2017", "testset"])
def test_common_spellings_of_splits_are_never_classes(
    tmp_path: Path, train: str, test: str
) -> None:
    name = tree(tmp_path, in_folders(train, test))
    (tmp_path / train / "cat" / "only here.png").write_bytes(encoded())
    for split, count in (("test", 6), ("train", 7)):
        data = load_dataset(name, split)
        assert (data.class_names, len(data), data.split) == (("cat", "dog", "owl"), count, split)


@pytest.mark.parametrize("folder", ["val", "valid", "Validation", "dev", "VALID", "val2017"])
@pytest.mark.parametrize("asked", ["validation", "valid", "val", "dev"])
def test_validation_split_is_read_by_any_of_its_names(
    tmp_path: Path, folder: str, asked: str
) -> None:
    name = tree(tmp_path, in_folders("train", folder, "test"))
    (tmp_path / folder / "owl" / "only here.png").write_bytes(encoded())
    data = load_dataset(name, asked)
    assert (len(data), data.split) == (7, "validation")


def test_two_folders_of_one_split_are_refused_by_name_unless_one_is_named(tmp_path: Path) -> None:
    name = tree(tmp_path, in_folders("train", "val", "valid"))
    for split in ("validation", "dev", "test"):
        with pytest.raises(DataError, match=r"are the validation split: \['val', 'valid'\]"):
            load_dataset(name, split)
    assert len(load_dataset(name, "valid")) == 6


def test_test_folder_without_classes_does_not_fall_back_to_another_split(tmp_path: Path) -> None:
    name = tree(tmp_path, [*in_folders("train", "valid"), "test/1.png", "test/2.png"])
    with pytest.raises(DataError, match=r"contains no image: '.*test'"):
        load_dataset(name)


@pytest.mark.parametrize("split", ["vaild", "holdout"])
def test_unknown_split_is_refused_instead_of_reading_the_whole_folder(
    tmp_path: Path, split: str
) -> None:
    name = tree(tmp_path, THREE)
    with pytest.raises(DataError, match="has no folder of this split"):
        load_dataset(name, split)
    tree(tmp_path, in_folders("holdout"))
    assert len(load_dataset(name, "holdout")) == 6


def test_validation_by_any_name_is_held_out_of_a_folder_without_splits(tmp_path: Path) -> None:
    name = tree(tmp_path, [f"{k}/{i}.png" for k in ("cat", "dog") for i in range(20)])
    assert ids(load_dataset(name, "val")) == ids(load_dataset(name, "validation"))
    assert len(load_dataset(name, "val")) == 4
