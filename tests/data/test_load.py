"""Data: which images a split holds, in which order, and which of them a subset takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from diffcls.data.dataset import Dataset, Item
from diffcls.data.load import load_dataset
from diffcls.data.subsets import choose
from diffcls.support.errors import DataError, UsageError

SPLITS = {"test": 500, "validation": 200, "train": 1097}
GRAY = Image.new("L", (4, 4), 128)


def no_image() -> Image.Image:
    raise AssertionError("an image was read before anybody asked for it")


def made_up(counts: tuple[int, ...]) -> Dataset:
    items = [Item(f"{k}/{i}", k, no_image) for k, n in enumerate(counts) for i in range(n)]
    names = tuple(f"class {k}" for k in range(len(counts)))
    return Dataset("made-up", "test", names, tuple(items), "r")


def ids(dataset: Dataset) -> list[str]:
    return [item.image_id for item in dataset.items]


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    GRAY.save(path)


# ---- digits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_digits_split_is_stratified(split: str) -> None:
    dataset = load_dataset("digits", split)
    assert len(dataset) == SPLITS[split] == len(set(ids(dataset)))
    assert ids(dataset) == [f"{split}/{i}" for i in range(len(dataset))]
    of_all = np.bincount(load_digits().target)
    share = SPLITS[split] * of_all / of_all.sum()
    counts = np.bincount([item.label for item in dataset.items])
    assert np.abs(counts - share).max() < 1
    assert dataset.class_names == tuple("0123456789")


def test_digits_test_split_is_the_one_that_is_stated() -> None:
    digits = load_digits()
    rest, test = train_test_split(
        np.arange(1797), test_size=500, stratify=digits.target, random_state=0
    )
    _, validation = train_test_split(
        rest, test_size=200, stratify=digits.target[rest], random_state=0
    )
    for split, rows in (("test", test), ("validation", validation)):
        dataset = load_dataset("digits", split)
        assert [item.label for item in dataset.items] == digits.target[rows].tolist()
        for item, row in zip(dataset.items[::37], rows[::37], strict=True):
            # 0–16 -> 0–255
            expected = np.rint(digits.images[row] * 255 / 16)
            assert np.array_equal(np.asarray(item.open()), expected)


def test_digits_splits_share_no_image_and_leave_none_out() -> None:
    def pixels(item: Item) -> bytes:
        return item.open().tobytes()

    seen = Counter(pixels(item) for split in SPLITS for item in load_dataset("digits", split).items)
    gray = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert seen == Counter(image.tobytes() for image in gray)


def test_digits_do_not_change_between_loads() -> None:
    revisions = {load_dataset("digits", split).revision for split in SPLITS}
    assert len(revisions) == 1


# ---- names -------------------------------------------------------------------------------------


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


# ---- a person's own folder ---------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["test", "val", "validation", ""])
def test_folder_of_the_split_is_used_where_there_is_one(tmp_path: Path, folder: str) -> None:
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


def test_folder_prefers_test_to_validation(tmp_path: Path) -> None:
    for split in ("validation", "val", "test"):
        for name in ("a", "b"):
            write(tmp_path / split / name / f"{split}.png")
        assert ids(load_dataset(f"folder:{tmp_path}"))[0] == f"a/{split}.png"
    assert ids(load_dataset(f"folder:{tmp_path}", "validation"))[0] == "a/validation.png"


def test_splits_are_not_taken_for_classes(tmp_path: Path) -> None:
    for split in ("test", "val"):
        for name in ("a", "b"):
            write(tmp_path / split / name / "1.png")
    with pytest.raises(DataError, match=r"no folder of this split: 'train'; allowed: test, val"):
        load_dataset(f"folder:{tmp_path}", "train")
    write(tmp_path / "tram" / "1.png")  # not all of them are splits: a class may be called train
    (tmp_path / "test").rename(tmp_path / "train")
    (tmp_path / "val").rename(tmp_path / "car")
    assert load_dataset(f"folder:{tmp_path}").class_names == ("car", "train", "tram")


def test_image_that_may_not_be_read_is_found_out_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "1.png")
    locked, really = tmp_path / "a" / "1.png", open

    def guarded(path: Any, *mode: Any, **options: Any) -> Any:
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied")
        return really(path, *mode, **options)

    monkeypatch.setattr("builtins.open", guarded)
    first, second = load_dataset(f"folder:{tmp_path}").items
    with pytest.raises(DataError, match="cannot read image"):
        first.open()
    assert second.open().size == (4, 4)


def test_folder_revision_follows_content_not_place(tmp_path: Path) -> None:
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


def test_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
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
        (lambda root: root.mkdir(), "no image found"),
        (lambda root: (root / "a").mkdir(parents=True), "no image found"),
        (lambda root: write(root / "a" / "1.png"), "two classes or more"),
    ],
    ids=["missing", "empty", "empty class", "one class"],
)
def test_folder_without_a_choice_is_refused(
    tmp_path: Path, build: Callable[[Path], Any], message: str
) -> None:
    build(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        load_dataset(f"folder:{tmp_path / 'set'}")


def test_label_outside_the_classes_is_refused() -> None:
    for label in (-1, 2):
        with pytest.raises(DataError, match="label of x out of range"):
            Dataset("d", "test", ("a", "b"), (Item("x", label, no_image),), "r")


# ---- subsets -----------------------------------------------------------------------------------

counts = st.lists(st.integers(1, 40), min_size=2, max_size=8).map(tuple)


@given(counts, st.data())
def test_limit_takes_that_many_and_larger_limits_hold_smaller_ones(
    sizes: tuple[int, ...], data: st.DataObject
) -> None:
    dataset = made_up(sizes)
    small = data.draw(st.integers(1, sum(sizes)))
    large = data.draw(st.integers(small, sum(sizes) + 5))
    less, more = ids(choose(dataset, limit=small)[0]), ids(choose(dataset, limit=large)[0])
    assert len(less) == small and len(more) == min(large, sum(sizes))
    assert set(less) <= set(more)
    assert less == [name for name in ids(dataset) if name in set(less)]  # in the split's order


@given(st.integers(2, 12), st.integers(1, 30), st.data())
def test_limit_is_stratified(classes: int, each: int, data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, classes * each))
    part, _ = choose(made_up((each,) * classes), limit=limit)
    taken = np.bincount([item.label for item in part.items], minlength=classes)
    assert set(taken.tolist()) <= {limit // classes, -(-limit // classes)}


def test_limit_below_the_number_of_classes_is_no_list_of_the_first_ones() -> None:
    chosen = choose(made_up((3,) * 400), limit=100)[0]
    labels = np.array([item.label for item in chosen.items])
    assert len(set(labels.tolist())) == 100
    # a hundred of 0 to 399, each as likely: their mean is known to 10
    assert abs(labels.mean() - 199.5) < 40


def test_limit_keeps_the_proportions_of_unequal_classes() -> None:
    part, _ = choose(made_up((10, 30, 60)), limit=50)
    assert np.bincount([item.label for item in part.items]).tolist() == [5, 15, 30]


def test_limit_is_a_sample_not_the_first_ones() -> None:
    part, _ = choose(load_dataset("digits"), limit=100)
    assert ids(part) != [f"test/{i}" for i in range(100)]
    assert ids(part) == ids(choose(load_dataset("digits"), limit=100)[0])


@given(counts, st.integers(1, 50))
def test_per_class_takes_that_many_of_each(sizes: tuple[int, ...], n: int) -> None:
    part, name = choose(made_up(sizes), subset=f"{n}-per-class")
    taken = np.bincount([item.label for item in part.items]).tolist()
    assert taken == [min(n, size) for size in sizes]
    whole = len(part) == sum(sizes)
    assert name == "all" if whole else name.startswith(f"{len(part)}:")


def test_subset_names_the_images_it_holds() -> None:
    dataset = made_up((9, 9))
    names = {choose(dataset, limit=n)[1].partition(":")[2] for n in range(1, 19)}
    assert len(names) == 18
    same = [choose(dataset, limit=18)[1], choose(dataset, subset="9-per-class")[1]]
    assert len({name.partition(":")[2] for name in same}) == 1
    assert choose(dataset)[1] == "all"


@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_indices_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    if suffix == ".npy":
        np.save(path, np.array([7, 0, 3]))
    else:
        path.write_text("7\n0\n3\n")
    part, name = choose(made_up((5, 5)), indices=str(path))
    assert ids(part) == ["0/0", "0/3", "1/2"]
    assert name.startswith("3:")


@pytest.mark.parametrize(
    "content",
    ["", "1 1", "-1", "10", "one", "1.5", np.array([0.5]), np.array([True]), np.array(["a"])],
    ids=str,
)
def test_bad_indices_are_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / ("bad.txt" if isinstance(content, str) else "bad.npy")
    path.write_text(content) if isinstance(content, str) else np.save(path, content)
    with pytest.raises(DataError, match="indices") as caught:
        choose(made_up((5, 5)), indices=str(path))
    assert caught.value.exit_status == 2


def test_indices_that_need_pickle_or_are_missing_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("objects.npy", "missing.txt", "missing.npy"):
        with pytest.raises(DataError, match="cannot read indices"):
            choose(made_up((5, 5)), indices=str(tmp_path / name))


@pytest.mark.parametrize(
    "rules",
    [
        {"limit": 0},
        {"limit": -3},
        {"subset": "0-per-class"},
        {"subset": "all"},
        {"subset": ""},
        {"limit": 3, "subset": "1-per-class"},
    ],
    ids=str,
)
def test_rules_that_cannot_be_followed_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        choose(made_up((5, 5)), **rules)
