"""scikit-learn's digits: fixed, stratified splits that share no image."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import ids
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from diffcls.data.dataset import Item
from diffcls.data.load import load_dataset
from diffcls.data.sources import digits as source
from diffcls.support.errors import DataError

SPLITS = {"test": 500, "validation": 200, "train": 1097}


@pytest.mark.parametrize("split", SPLITS)
def test_split_is_stratified(split: str) -> None:
    dataset = load_dataset("digits", split)
    assert len(dataset) == SPLITS[split] == len(set(ids(dataset)))
    assert ids(dataset) == [f"{split}/{i}" for i in range(len(dataset))]
    of_all = np.bincount(load_digits().target)
    share = SPLITS[split] * of_all / of_all.sum()
    counts = np.bincount([item.label for item in dataset.items])
    assert np.abs(counts - share).max() < 1
    assert dataset.class_names == tuple("0123456789")


def test_stored_splits_are_those_of_train_test_split_at_the_stated_seed() -> None:
    digits = load_digits()
    rest, test = train_test_split(
        np.arange(1797), test_size=500, stratify=digits.target, random_state=0
    )
    train, validation = train_test_split(
        rest, test_size=200, stratify=digits.target[rest], random_state=0
    )
    for split, rows in (("test", test), ("validation", validation), ("train", train)):
        dataset = load_dataset("digits", split)
        assert [item.label for item in dataset.items] == digits.target[rows].tolist()
        for item, row in zip(dataset.items, rows, strict=True):
            # 0–16 -> 0–255
            expected = np.rint(digits.images[row] * 255 / 16)
            assert np.array_equal(np.asarray(item.open()), expected)


def test_splits_partition_the_images() -> None:
    def pixels(item: Item) -> bytes:
        return item.open().tobytes()

    counts = Counter(
        pixels(item) for split in SPLITS for item in load_dataset("digits", split).items
    )
    gray = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert counts == Counter(image.tobytes() for image in gray)


def test_revision_is_that_of_all_splits() -> None:
    revisions = {load_dataset("digits", split).revision for split in SPLITS}
    assert len(revisions) == 1


def test_digits_are_read_without_importing_scikit_learn_or_scipy() -> None:
    code = """
import sys
from diffcls.data.load import load_dataset
load_dataset("digits", "test").items[0].open()
print(*sorted({"sklearn", "scipy", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("content", [None, b"no gzip file"])
def test_missing_or_damaged_table_is_reported(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path.joinpath(*source.TABLE)
    if content is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    package = ModuleSpec("sklearn", None, is_package=True)
    package.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: package)
    with pytest.raises(DataError, match=r"scikit-learn's table of digits.*reinstall scikit-learn"):
        load_dataset("digits", "test")
