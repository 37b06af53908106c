"""Plain-text tables."""

from __future__ import annotations

import pytest

from diffcls.support.tables import align


def test_columns_have_one_width_and_a_rule_below_the_header() -> None:
    lines = [["name", "count"], ["a", "1,000"], ["longer", "2"]]
    assert align(lines, right={"count"}).splitlines() == [
        "name    count",
        "------  -----",
        "a       1,000",
        "longer      2",
    ]
    assert align(lines).splitlines()[-1] == "longer  2"


def test_lines_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        align([["name", "count"], ["a"]])
