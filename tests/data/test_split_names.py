"""Split names: spellings of train, validation and test, and names that are none."""

from __future__ import annotations

import pytest

from diffcls.data.split_names import SPELLINGS, split_folders, split_of

SPELLED = [(spelling, split) for split, names in SPELLINGS.items() for spelling in names]


@pytest.mark.parametrize(("spelling", "split"), SPELLED)
def test_every_spelling_is_its_split_in_any_case_and_decoration(spelling: str, split: str) -> None:
    forms = (spelling, spelling.upper(), spelling.title(), f"{spelling}_set", f"{spelling}set")
    for name in (*forms, f"{spelling}2017", f"{spelling}_images", f"{spelling.title()}Data"):
        assert split_of(name) == split, name


@pytest.mark.parametrize(
    "name", ["cat", "trains", "testament", "train station", "test1", "devil", "values", "2017", ""]
)
def test_other_names_are_no_splits(name: str) -> None:
    assert split_of(name) is None


def test_spellings_are_those_of_the_library_datasets() -> None:
    files = pytest.importorskip("datasets.data_files", reason="not in the light environment")
    own = {split: set(names) - {"trainval"} for split, names in SPELLINGS.items()}
    assert own == {str(split): set(names) for split, names in files.SPLIT_KEYWORDS.items()}


def test_names_with_the_same_other_words_are_splits() -> None:
    names = ["seg_train", "seg_test", "cat", "readme"]
    assert split_folders(names) == {"train": ["seg_train"], "test": ["seg_test"]}


def test_names_with_different_other_words_are_classes() -> None:
    assert split_folders(["train station", "test tube", "test pattern"]) == {}
