"""Subsets: stratified and nested samples, images per class, files of indices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.datasets import ids, made_up
from hypothesis import given
from hypothesis import strategies as st

from diffcls.data.load import load_dataset
from diffcls.data.subsets import choose
from diffcls.support.errors import DataError, UsageError

counts = st.lists(st.integers(1, 40), min_size=2, max_size=8).map(tuple)


@given(counts, st.data())
def test_limit_is_the_number_of_images_and_larger_samples_contain_smaller_ones(
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
def test_sample_is_stratified(classes: int, each: int, data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, classes * each))
    part, _ = choose(made_up((each,) * classes), limit=limit)
    taken = np.bincount([item.label for item in part.items], minlength=classes)
    assert set(taken.tolist()) <= {limit // classes, -(-limit // classes)}


def test_sample_smaller_than_the_number_of_classes_has_random_classes() -> None:
    chosen = choose(made_up((3,) * 400), limit=100)[0]
    labels = np.array([item.label for item in chosen.items])
    assert len(set(labels.tolist())) == 100
    # 100 of the labels 0 to 399: the standard error of their mean is 10
    assert abs(labels.mean() - 199.5) < 40


def test_sample_keeps_the_proportions_of_unequal_classes() -> None:
    part, _ = choose(made_up((10, 30, 60)), limit=50)
    assert np.bincount([item.label for item in part.items]).tolist() == [5, 15, 30]


def test_sample_is_random_and_reproducible() -> None:
    part, _ = choose(load_dataset("digits"), limit=100)
    assert ids(part) != [f"test/{i}" for i in range(100)]
    assert ids(part) == ids(choose(load_dataset("digits"), limit=100)[0])


@given(counts, st.integers(1, 50))
def test_per_class_subset_has_that_many_images_of_each_class(
    sizes: tuple[int, ...], n: int
) -> None:
    part, name = choose(made_up(sizes), subset=f"{n}-per-class")
    taken = np.bincount([item.label for item in part.items]).tolist()
    assert taken == [min(n, size) for size in sizes]
    whole = len(part) == sum(sizes)
    assert name == "all" if whole else name.startswith(f"{len(part)}:")


def test_name_of_a_subset_depends_only_on_its_images() -> None:
    dataset = made_up((9, 9))
    names = {choose(dataset, limit=n)[1].partition(":")[2] for n in range(1, 19)}
    assert len(names) == 18
    equal = [choose(dataset, limit=18)[1], choose(dataset, subset="9-per-class")[1]]
    assert len({name.partition(":")[2] for name in equal}) == 1
    assert choose(dataset)[1] == "all"


@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_indices_are_read_from_a_text_or_npy_file(tmp_path: Path, suffix: str) -> None:
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
def test_invalid_indices_are_an_error(tmp_path: Path, content: Any) -> None:
    path = tmp_path / ("bad.txt" if isinstance(content, str) else "bad.npy")
    path.write_text(content) if isinstance(content, str) else np.save(path, content)
    with pytest.raises(DataError, match="--indices: ") as caught:
        choose(made_up((5, 5)), indices=str(path))
    assert caught.value.exit_status == 2


def test_pickled_or_missing_file_of_indices_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("objects.npy", "missing.txt", "missing.npy"):
        with pytest.raises(DataError, match="--indices: cannot read file"):
            choose(made_up((5, 5)), indices=str(tmp_path / name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "--limit out of range: 0; allowed: 1 or more"),
        ({"limit": -3}, "--limit out of range: -3"),
        ({"subset": "0-per-class"}, "--subset: invalid value: '0-per-class'; allowed: N-per-class"),
        ({"subset": "all"}, "--subset: invalid value: 'all'"),
        ({"subset": ""}, "--subset: invalid value: ''"),
        ({"limit": 3, "subset": "1-per-class"}, "more than one subset given"),
    ],
    ids=str,
)
def test_invalid_or_combined_options_are_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose(made_up((5, 5)), **options)
