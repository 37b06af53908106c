"""SECURITY.md: each promise names a test that exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)
PROMISES = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for section in SECTIONS
    if "| promise | test |" in section
    for line in re.findall(r"^\|.*\|$", section, flags=re.MULTILINE)[2:]
]


@cache
def names_in(path: str) -> frozenset[str]:
    """Names of the tests of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return frozenset(one.name for one in functions if one.name.startswith("test_"))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise[0][:50])
def test_a_promise_names_a_test_that_exists(promise: list[str]) -> None:
    words, place = promise
    assert words.lstrip("`")[0].isupper()
    named = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", place)
    assert named, place
    assert named[2] in names_in(named[1])


def test_each_danger_of_the_threat_model_has_a_section_of_promises() -> None:
    assert len(PROMISES) > 25
    for title in ("Models", "Data", "Prompts", "Tokens", "The demo"):
        (section,) = (one for one in SECTIONS if one.startswith(title))
        assert section.count("::test_") >= 4, title


def test_a_report_goes_to_an_advisory_and_to_no_address_of_a_person() -> None:
    assert "Report a vulnerability" in TEXT and "@" not in TEXT
