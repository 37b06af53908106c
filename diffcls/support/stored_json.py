"""Strict JSON of stored files, and the checks of its values' types and ranges."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """The value of JSON text in UTF-8.

    Raises:
        ValueError: for text that is not JSON: NaN and infinity, a key that stands twice in an
            object, and nesting too deep to be read included.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        return json.loads(
            text, parse_constant=_number, parse_float=_number, object_pairs_hook=_object
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _number(token: str) -> float:
    value = float(token)
    if not math.isfinite(value):
        raise ValueError(f"{token} is no finite number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return value


@dataclass(frozen=True)
class Rule:
    """What a stored value may be.

    Args:
        allowed: the allowed values, in words.
        holds: whether a value is allowed.
    """

    allowed: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Breach:
    """A value that breaks the rule of its key.

    Args:
        key: the key.
        given: the value, shortened for a message.
        allowed: the allowed values, in words.
    """

    key: str
    given: str
    allowed: str


TEXT = Rule("a text", lambda value: type(value) is str)
FLAG = Rule("true or false", lambda value: type(value) is bool)
OBJECT = Rule("an object", lambda value: type(value) is dict)


def integer(low: int, high: int) -> Rule:
    """An int, no bool, from `low` to `high`."""
    return Rule(
        f"an integer from {low:,} to {high:,}",
        lambda value: type(value) is int and low <= value <= high,
    )


def number_above(low: float) -> Rule:
    """A finite number, no bool, above `low`."""
    return Rule(
        f"a finite number above {low:g}",
        lambda value: type(value) in (int, float) and low < value and _is_finite(value),
    )


def list_of(rule: Rule) -> Rule:
    """A list whose items all keep a rule."""
    return Rule(
        f"a list, each item {rule.allowed}",
        lambda value: type(value) is list and all(map(rule.holds, value)),
    )


def optional(rule: Rule) -> Rule:
    """Null, or a value that keeps a rule."""
    return Rule(f"{rule.allowed}, or null", lambda value: value is None or rule.holds(value))


def first_breach(values: Mapping[str, Any], rules: Mapping[str, Rule]) -> Breach | None:
    """The first rule that a value breaks; a key that is missing has nothing to break it."""
    for key, rule in rules.items():
        if key in values and not rule.holds(values[key]):
            return Breach(key, reprlib.repr(values[key]), rule.allowed)
    return None


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        return False
