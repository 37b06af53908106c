"""Loading of data sets by name."""

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
    ("name", "meant"), [("digit", "digits"), ("Digits", "digits"), ("diigts", "digits")]
)
def test_unknown_data_set_is_answered_with_the_one_meant(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"unknown dataset: '{name}'.*did you mean '{meant}'"):
        load_dataset(name)


@pytest.mark.parametrize("name", ["folder", "folder:", "", "zzz"])
def test_no_data_set_goes_by_such_a_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown dataset.*allowed: .*digits.*folder:PATH"):
        load_dataset(name)


def test_unknown_split_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown split of digits: 'tets'; allowed: test, "):
        load_dataset("digits", "tets")


def image_folder(root: Path, value: int = 200) -> None:
    for name in ("a", "b"):
        (root / "test" / name).mkdir(parents=True)
        Image.new("L", (4, 4), value).save(root / "test" / name / "1.png")


def test_own_layout_comes_before_tables_and_tables_before_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path)
    assert set(grays(load_dataset("stl10", root=tmp_path))) == {200}
    write(tmp_path / "data" / "test.parquet", table([5, 6, 7]))
    assert grays(load_dataset("stl10", root=tmp_path)) == [5, 6, 7]
    own = load_dataset("digits")
    module = pytest.importorskip("diffcls.data.layouts.stl10")
    monkeypatch.setattr(module, "load", lambda query: own)
    assert load_dataset("stl10", root=tmp_path) is own


def test_folder_may_be_the_parent_of_the_data_sets_own(tmp_path: Path) -> None:
    image_folder(tmp_path / "stl10")
    assert ids(load_dataset("stl10", root=tmp_path)) == ["a/1.png", "b/1.png"]


def test_missing_and_empty_roots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-root: folder not found: '.*none'"):
        load_dataset("stl10", root=tmp_path / "none")
    with pytest.raises(DataError, match=r"no stl10 found: .*layout, parquet files, or one"):
        load_dataset("stl10", root=tmp_path)


@pytest.mark.parametrize("split", ["", "..", "/etc", "a/b", "te*", "[a"])
@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_split_that_is_no_name_is_refused(tmp_path: Path, kind: str, split: str) -> None:
    with pytest.raises(UsageError, match="--split: invalid name"):
        load_dataset(f"{kind}:{tmp_path}", split)


def test_split_that_a_data_set_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown split of imagenet: 'validation'; allowed: test"):
        load_dataset("imagenet", "validation", root=tmp_path)


def test_validation_is_held_out_of_train_stratified_and_always_the_same(tmp_path: Path) -> None:
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
