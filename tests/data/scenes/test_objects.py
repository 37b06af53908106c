"""Labels of the objects that scenes show."""

from __future__ import annotations

import re

import pytest
from helpers.scenes import load

from diffcls.data.load import load_dataset
from diffcls.data.scenes.objects import object_labels
from diffcls.support.errors import UsageError

OBJECT = re.compile(r"(?:a|two|three) (\w+ \w+ (?:circle|square|triangle|cross))")


@pytest.mark.parametrize("name", ["scenes/relations", "scenes/pairs", "scenes/counting"])
def test_labels_are_the_objects_that_the_sentence_names(name: str) -> None:
    data = load(name, "validation")
    labels, present = object_labels(data)
    assert list(labels) == sorted(labels) and present.any(axis=0).all()
    for item, row in zip(data.items, present, strict=True):
        sentence = data.class_names[item.class_index]
        expected = {f"a {kind}" for kind in OBJECT.findall(sentence)}
        assert {label for label, shown in zip(labels, row, strict=True) if shown} == expected


def test_data_set_of_one_label_per_image_is_refused() -> None:
    with pytest.raises(UsageError, match="--multi-label needs a data set with several labels"):
        object_labels(load_dataset("digits", "test"))
