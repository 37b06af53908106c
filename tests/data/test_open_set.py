"""Open-set question: the withheld labels and what is left of the question."""

from __future__ import annotations

from collections import Counter

import pytest

from diffcls.data.load import load_dataset
from diffcls.data.open_set import NONE_OF_THESE, open_set, withheld_labels
from diffcls.data.prompts import PromptSet
from diffcls.support.errors import UsageError


def test_a_third_of_the_labels_is_withheld_keyed_by_the_seed() -> None:
    names = [f"class {k}" for k in range(10)]
    chosen = withheld_labels(names, 0)
    assert len(chosen) == 3 and chosen == withheld_labels(names, 0)
    assert len({withheld_labels(names, seed) for seed in range(20)}) > 10
    often = Counter(k for seed in range(400) for k in withheld_labels(names, seed))
    assert all(80 < often[k] < 160 for k in range(10))  # 120 expected of each


def test_validation_and_test_images_have_the_same_candidates() -> None:
    test, validation = (open_set(load_dataset("digits", s), 0) for s in ("test", "validation"))
    assert (test.class_names, test.withheld) == (validation.class_names, validation.withheld)


def test_labels_name_the_same_class_as_before_or_none() -> None:
    whole = load_dataset("digits", "test")
    data = open_set(whole, 3)
    assert data.class_names[-1] == NONE_OF_THESE and len(data.class_names) == 8
    for before, after in zip(whole.items, data.items, strict=True):
        name = whole.class_names[before.label]
        expected = NONE_OF_THESE if name in data.withheld else name
        assert data.class_names[after.label] == expected
        assert after.image_id == before.image_id


def test_prompts_are_those_of_the_candidates_with_all_their_templates() -> None:
    whole = load_dataset("digits", "test")
    data = open_set(whole, 3)
    prompts = PromptSet.from_templates(whole.class_names, ["a {}", "the {}"])
    kept = data.candidates(prompts)
    assert kept == PromptSet.from_templates(data.class_names[:-1], ["a {}", "the {}"])


def test_too_few_labels_and_candidates_of_an_image_are_refused() -> None:
    with pytest.raises(UsageError, match="--reject withholds a third of the labels: '2 labels'"):
        withheld_labels(["a", "b"], 0)
    with pytest.raises(UsageError, match="--reject needs classes that all images share"):
        open_set(load_dataset("scenes/pairs", "validation"), 0)
