"""Library functions that take the fields of an options class as keyword arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from diffcls.support.signatures import takes


@dataclass(frozen=True, kw_only=True)
class Options:
    count: int = 1
    name: str = "a"


@takes(Options)
def shown(options: Options) -> str:
    return options.name * options.count


def doubled(arguments: Mapping[str, Any]) -> Options:
    return Options(count=2 * int(arguments.get("count", 1)))


@takes(Options, doubled)
def read(options: Options) -> str:
    return options.name * options.count


def test_function_takes_the_fields_and_their_defaults() -> None:
    assert (shown(), shown(count=3), shown(count=2, name="b")) == ("a", "aaa", "bb")
    assert str(inspect.signature(shown)) == "(*, count: 'int' = 1, name: 'str' = 'a') -> 'str'"


def test_options_come_from_the_reader_if_there_is_one() -> None:
    assert (read(), read(count=3)) == ("aa", "aaaaaa")


@pytest.mark.parametrize("function", [shown, read])
def test_positional_arguments_are_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="takes keyword arguments only"):
        function(3)
