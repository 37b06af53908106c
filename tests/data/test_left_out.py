"""Classes left out of a data set."""

from __future__ import annotations

import dataclasses

import pytest
from helpers.datasets import ids, made_up
from hypothesis import given
from hypothesis import strategies as st

from diffcls.data.dataset import Dataset
from diffcls.data.left_out import classes_without, images_without
from diffcls.support.errors import UsageError

sizes = st.lists(st.integers(1, 6), min_size=3, max_size=7).map(tuple)


@given(sizes, st.data())
def test_images_of_the_other_classes_stay_with_their_names(
    counts: tuple[int, ...], data: st.DataObject
) -> None:
    whole = made_up(counts)
    names = data.draw(st.sets(st.sampled_from(whole.class_names), max_size=len(counts) - 2))
    spelled = [data.draw(st.sampled_from([name, name.upper()])) for name in sorted(names)]
    images, classes = images_without(whole, spelled), classes_without(whole, spelled)
    expected = [i.image_id for i in whole.items if whole.class_names[i.label] not in names]
    assert ids(images) == ids(classes) == expected
    assert images.class_names == whole.class_names
    assert classes.class_names == tuple(n for n in whole.class_names if n not in names)
    for data_set in (images, classes):
        by_id = {i.image_id: data_set.class_names[i.label] for i in data_set.items}
        assert by_id == {
            i.image_id: whole.class_names[i.label] for i in whole.items if i.image_id in by_id
        }


def test_names_of_prompts_are_left_out_with_their_classes() -> None:
    whole = dataclasses.replace(made_up((1, 1, 1)), prompt_names=("an a", "a b", "a c"))
    assert classes_without(whole, [whole.class_names[1]]).prompt_names == ("an a", "a c")


def test_names_that_are_no_classes_are_refused() -> None:
    whole = made_up((2, 2, 2))
    first = whole.class_names[0]
    with pytest.raises(UsageError, match=r"unknown class of .*'trousers'"):
        images_without(whole, ["trousers"])
    with pytest.raises(UsageError, match=r"too few classes are left.*2 of 3 left out"):
        images_without(whole, whole.class_names[:2])
    twice = dataclasses.replace(whole, class_names=(first, first.upper(), "other"))
    with pytest.raises(UsageError, match="several classes"):
        images_without(twice, [first])
    assert images_without(whole, []) is whole


def test_candidates_of_single_images_are_refused() -> None:
    whole = made_up((2, 2, 2))
    items = tuple(dataclasses.replace(i, label=0, candidates=(0, 1)) for i in whole.items)
    pairs: Dataset = dataclasses.replace(whole, items=items)
    with pytest.raises(UsageError, match="without candidates of each image"):
        images_without(pairs, whole.class_names[:1])
