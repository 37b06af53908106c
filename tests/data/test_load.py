"""Loading of data sets by name: readers in order, splits, and the held-out validation split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.datasets import ids
from helpers.parquet_files import grays, labels, table, write
from PIL import Image

from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.data.subsets import hold_out
from diffcls.support.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("name", "closest"), [("digit", "digits"), ("Digits", "digits"), ("diigts", "digits")]
)
def test_unknown_name_is_an_error_that_suggests_the_closest(name: str, closest: str) -> None:
    with pytest.raises(UsageError, match=f"unknown dataset: '{name}'.*did you mean '{closest}'"):
        load_dataset(name)


@pytest.mark.parametrize("name", ["folder", "folder:", "", "zzz"])
def test_unknown_name_is_an_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown dataset.*allowed: .*digits.*folder:PATH"):
        load_dataset(name)


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(UsageError, match="unknown split of digits: 'tets'; allowed: test, "):
        load_dataset("digits", "tets")


def image_folder(root: Path, value: int = 200) -> None:
    for name in ("a", "b"):
        (root / "test" / name).mkdir(parents=True)
        Image.new("L", (4, 4), value).save(root / "test" / name / "1.png")


def test_original_layout_takes_precedence_over_parquet_files_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path)
    assert set(grays(load_dataset("stl10", root=tmp_path))) == {200}
    write(tmp_path / "data" / "test.parquet", table([5, 6, 7]))
    assert grays(load_dataset("stl10", root=tmp_path)) == [5, 6, 7]
    original = load_dataset("digits")
    module = pytest.importorskip("diffcls.data.layouts.stl10")
    monkeypatch.setattr(module, "load", lambda query: original)
    assert load_dataset("stl10", root=tmp_path) is original


def test_root_may_be_the_parent_of_the_data_sets_folder(tmp_path: Path) -> None:
    image_folder(tmp_path / "stl10")
    assert ids(load_dataset("stl10", root=tmp_path)) == ["a/1.png", "b/1.png"]


def test_missing_or_empty_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-root: folder not found: '.*none'"):
        load_dataset("stl10", root=tmp_path / "none")
    with pytest.raises(DataError, match=r"no stl10 found: .*layout, parquet files, or one"):
        load_dataset("stl10", root=tmp_path)


@pytest.mark.parametrize("split", ["", "..", "/etc", "a/b", "te*", "[a"])
@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_split_that_is_not_a_plain_name_is_an_error(tmp_path: Path, kind: str, split: str) -> None:
    with pytest.raises(UsageError, match="--split: invalid name"):
        load_dataset(f"{kind}:{tmp_path}", split)


def test_split_that_the_data_set_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown split of imagenet: 'validation'; allowed: test"):
        load_dataset("imagenet", "validation", root=tmp_path)


def test_validation_is_a_fixed_stratified_sample_held_out_of_train(tmp_path: Path) -> None:
    count = catalog.SPECS["stl10"].validation
    kinds = [0] * 1500 + [1] * 750 + [2] * 250
    rows = table(range(3)).take([0] * 2500).set_column(1, "label", pa.array(kinds))
    write(tmp_path / "train.parquet", rows)
    train = load_dataset("stl10", "train", root=tmp_path)
    held = load_dataset("stl10", "validation", root=tmp_path)
    assert (train.split, held.split) == ("train", "validation")
    assert len(held) == count == 500
    assert Counter(ids(train) + ids(held)) == Counter(f"train/{i}" for i in range(2500))
    assert Counter(labels(held)) == {0: 300, 1: 150, 2: 50}
    assert ids(held) != [f"train/{i}" for i in range(count)]
    assert ids(load_dataset("stl10", "validation", root=tmp_path)) == ids(held)
    write(tmp_path / "few" / "train.parquet", rows.slice(0, 100))
    assert len(load_dataset("stl10", "validation", root=tmp_path / "few")) == 20  # a fifth
    with pytest.raises(DataError, match=r"too few training images.*: 500; allowed: more than 500"):
        hold_out(held, count)
