"""Invariants: values pass through, and a defect is an error also under ``python -O``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diffcls.support.invariants import instance, known


def test_values_pass_through_unchanged() -> None:
    value: list[int] = []
    assert known(value) is value and instance(value, list) is value
    assert known(0) == 0 and instance(True, int) is True


def test_a_missing_value_and_another_type_are_defects() -> None:
    with pytest.raises(RuntimeError, match="internal error"):
        known(None)
    with pytest.raises(RuntimeError, match="str in place of int"):
        instance("1", int)


def test_they_are_checked_by_an_optimised_python_too() -> None:
    code = "from diffcls.support.invariants import known; known(None)"
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, check=False)
    assert done.returncode == 1 and b"internal error" in done.stderr
