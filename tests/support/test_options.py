"""Declared ranges of options, and options without effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffcls.support.errors import UsageError
from diffcls.support.options import check_values, free_text, read, within


@dataclass(frozen=True, kw_only=True)
class Some:
    count: int = within(1, 10, 4)
    rows: int | str | None = within(1, 8, words=("auto",))
    share: float | None = within(0, 1, whole=False, is_open=True)
    weights: Sequence[float] = within(0, 5, (2.0,), whole=False)
    name: str | Path | None = None
    texts: Sequence[str] = free_text((), "text")
    quiet: bool = False

    def __post_init__(self) -> None:
        check_values(self)

    def unused(self) -> dict[str, str]:
        return {} if self.name is None else {"count": "has no effect with --name"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "--count out of range: 0; allowed: 1 to 10"),
        ({"count": 11}, "--count out of range: 11"),
        ({"count": 2.0}, "--count out of range: 2.0"),
        ({"count": True}, "--count out of range: True"),
        ({"count": "3"}, "--count out of range: '3'"),
        ({"rows": "many"}, "--rows out of range: 'many'; allowed: 1 to 8, or auto"),
        ({"rows": ""}, "--rows is empty: ''"),
        ({"share": 1.0}, "--share out of range: 1.0; allowed: above 0, below 1"),
        ({"share": float("nan")}, "--share out of range: nan"),
        ({"weights": [1.0, float("inf")]}, "--weights out of range: inf"),
        ({"weights": []}, r"--weights is empty: \[\]"),
        ({"name": ""}, "--name is empty: ''"),
        ({"name": Path("a" * 256)}, "--name holds a name of 256 bytes"),
        ({"name": "a/" + "é" * 128 + "/b"}, "--name holds a name of 256 bytes"),
        ({"name": "a\0b"}, "--name holds the control character"),
        ({"texts": ["fine", " "]}, "--text is empty: ' '"),
        ({"quiet": "no"}, "--quiet is on or off: 'no'"),
    ],
)
def test_value_that_is_not_declared_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Some(**values)


def test_declared_values_pass() -> None:
    Some(count=np.int64(10), rows="auto", share=0.5, weights=(0, 5.0), name="é" * 127)
    Some(texts=["x" * 5000], name="/".join(["a" * 255] * 3))


def test_option_without_effect_is_refused_when_given_even_as_its_default() -> None:
    assert read(Some, {"name": "a"}).count == 4
    with pytest.raises(UsageError, match="--count has no effect with --name; remove --count"):
        read(Some, {"name": "a", "count": 4})
    assert read(Some, {"count": 3}).count == 3
