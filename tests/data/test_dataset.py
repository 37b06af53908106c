"""Data sets: consistency of labels and candidates."""

from __future__ import annotations

import re

import pytest
from helpers.datasets import no_image
from PIL import Image

from diffcls.data.dataset import Dataset, Item
from diffcls.support.errors import DataError


def with_candidates(*candidates: tuple[int, ...], labels: tuple[int, ...] = (0, 0)) -> Dataset:
    def gray() -> Image.Image:
        return Image.new("L", (4, 4), 128)

    items = zip(labels, candidates, strict=True)
    made = tuple(Item(f"test/{i}", k, gray, own) for i, (k, own) in enumerate(items))
    return Dataset("made-up", "test", ("a", "b", "c"), made, "r")


def test_label_is_an_index_among_the_candidates() -> None:
    dataset = with_candidates((2, 0), (1, 2), labels=(0, 1))
    assert [item.class_index for item in dataset.items] == [2, 2]
    assert dataset.n_candidates == 2
    assert dataset.take([1]).items == dataset.items[1:]
    plain = with_candidates((), (), labels=(2, 1))
    assert [item.class_index for item in plain.items] == [2, 1]
    assert plain.n_candidates == 3


@pytest.mark.parametrize(
    ("candidates", "wrong"),
    [
        (((0, 1), (0, 1, 2)), "(0, 1, 2)"),
        (((0, 1), (2,)), "(2,)"),
        (((0, 1), ()), "()"),
        (((), (0, 1)), "(0, 1)"),
        (((0, 1), (0, 3)), "(0, 3)"),
        (((0, 1), (-1, 1)), "(-1, 1)"),
    ],
)
def test_inconsistent_candidates_are_an_error(
    candidates: tuple[tuple[int, ...], ...], wrong: str
) -> None:
    with pytest.raises(DataError, match=re.escape(f"invalid candidates of test/1: {wrong}")):
        with_candidates(*candidates)


def test_label_outside_the_candidates_is_an_error() -> None:
    # even if the data set has a class of that index
    with pytest.raises(DataError, match=r"label of test/1 out of range: 2; allowed: 0 to 1"):
        with_candidates((0, 1), (0, 1), labels=(0, 2))


def test_label_outside_the_classes_is_an_error() -> None:
    for label in (-1, 2):
        with pytest.raises(DataError, match="label of x out of range"):
            Dataset("d", "test", ("a", "b"), (Item("x", label, no_image),), "r")
