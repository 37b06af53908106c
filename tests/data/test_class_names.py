"""Class names: order, words, and names that are the same."""

from __future__ import annotations

import random
import unicodedata

import pytest
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.data.class_names import check_own_names, normalise, sort_names, words_of
from diffcls.support.errors import UsageError


@examples(names=st.sets(st.integers(-(10**6), 10**6).map(str)))
def test_names_that_are_all_whole_numbers_are_sorted_by_value(names: set[str]) -> None:
    assert sort_names(names) == [str(value) for value in sorted(map(int, names))]


@examples(names=st.sets(st.text(), min_size=1))
def test_names_that_are_not_all_numbers_are_sorted_as_text(names: set[str]) -> None:
    names |= {"cat"}
    assert sort_names(names) == sorted(names)
    shuffled = random.Random(0).sample(sorted(names), len(names))
    assert sort_names(shuffled) == sort_names(names)


@pytest.mark.parametrize("names", [["²", "1", "10", "9"], ["9", "10", ""], ["1.0", "10", "9"]])
def test_other_digits_and_fractions_are_no_whole_numbers(names: list[str]) -> None:
    assert sort_names(names) == sorted(names)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("american_bulldog", "american bulldog"),
        ("__pit__bull_", "pit bull"),
        ("Pit Bull", "Pit Bull"),
        ("F-18", "F-18"),
        ("_", "_"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_words_of_a_folder_name(name: str, words: str) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog", "cat"],
        ["cat", "dog", "Cat"],
        ["cat", "dog", "cat "],
        ["caf\u00e9", "dog", "cafe\u0301"],
        ["pit bull", "dog", "pit  bull"],
        ["stra\u00dfe", "STRASSE"],
    ],
)
def test_names_that_differ_only_in_case_spaces_or_unicode_form_are_duplicates(
    names: list[str],
) -> None:
    with pytest.raises(UsageError, match="duplicate labels") as caught:
        check_own_names(names, "labels")
    assert all(repr(name) in str(caught.value) for name in names if name != "dog")


def test_different_names_are_no_duplicates() -> None:
    check_own_names(["cat", "cats", "pit bull", "pit_bull", "pitbull"], "labels")


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_empty_name_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match="empty name among the folders of classes"):
        check_own_names(["cat", name], "folders of classes")


@examples(name=st.text())
def test_unicode_forms_of_a_name_are_joined(name: str) -> None:
    for form in ("NFC", "NFD"):
        assert normalise(unicodedata.normalize(form, name)) == normalise(name)
