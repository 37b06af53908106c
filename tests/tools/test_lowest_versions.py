"""The installer of the lowest versions turns lower bounds into exact versions, and nothing else."""

from __future__ import annotations

import pytest

from tools.lowest_versions import lowest


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("torch>=2.10", "torch==2.10"),
        ("datasets >= 5.0", "datasets==5.0"),
        ('ray[data]>=2.50; extra == "ray"', 'ray[data]==2.50; extra == "ray"'),
        ('open_clip_torch>=3.2 ; extra == "clip"', 'open_clip_torch==3.2 ; extra == "clip"'),
        ("diffcls-0.2.0-py3-none-any.whl", "diffcls-0.2.0-py3-none-any.whl"),
        ("--no-deps", "--no-deps"),
        ("hatchling", "hatchling"),
    ],
)
def test_lower_bounds_become_exact_versions(requirement: str, expected: str) -> None:
    assert lowest(requirement) == expected
