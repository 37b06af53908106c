"""Loading of data sets by name."""

from __future__ import annotations

import pytest

from diffcls.data.load import load_dataset
from diffcls.support.errors import UsageError


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
