"""One-line descriptions are read from source, without importing it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from diffcls.support.source_docs import summary_of

SOURCE = '''"""Module of things: several,
on two lines.

More.
"""
raise SystemExit("imported")
WITH = object()
"""A described ``thing``."""
WITHOUT = object()
OTHER: int = 1
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "diffcls_test_described"
    (tmp_path / f"{name}.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_text_below_an_object_goes_before_that_of_its_module(module: str) -> None:
    assert summary_of(f"{module}:WITH") == "A described thing"
    for name in ("WITHOUT", "OTHER", "nothing"):
        assert summary_of(f"{module}:{name}") == "Module of things: several, on two lines"
    assert module not in sys.modules


def test_a_place_without_source_has_no_description() -> None:
    for place in ("no_such_module:x", "no.such.module:x", "itertools:count", ":x"):
        assert summary_of(place) == ""
