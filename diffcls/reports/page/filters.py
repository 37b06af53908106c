"""Filters of the templates: numbers and names as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffcls.support import number_text
from diffcls.support.text import printable

Value = float | str | None


def percent(value: Value, digits: int = 1) -> str:
    """0.5 or its text -> ``50.0 %``; empty for a missing figure."""
    return "" if value in (None, "") else number_text.percent(float(value), digits)


def points(value: Value, digits: int = 1) -> str:
    """A difference of fractions in percentage points, signed: 0.05 -> ``+5.0``."""
    return "" if value in (None, "") else number_text.signed(100 * float(value), digits)


def amount(value: Value) -> str:
    """A quantity, with three decimals below 1 and one from there on."""
    if value in (None, ""):
        return ""
    number = float(value)
    return f"{number:.3f}" if 0 < abs(number) < 1 else f"{number:,.1f}".removesuffix(".0")


def evaluations(value: Value) -> str:
    """Evaluations per image; a dash for methods that take none, since their cost is not 0."""
    return "—" if value not in (None, "") and not float(value) else amount(value)


def p_value(value: Value) -> str:
    """A p-value; empty for a missing one."""
    return "" if value in (None, "") else number_text.p_value(float(value))


def interval(low: Value, high: Value) -> str:
    """The limits of an interval of fractions, in percent."""
    if low in (None, "") or high in (None, ""):
        return ""
    return f"{100 * float(low):.1f}–{100 * float(high):.1f}"


def method(row: Mapping[str, str]) -> str:
    """Method and search of a row."""
    return "/".join(filter(None, (row["method"], row["search"])))


def shown(text: object) -> str:
    """A name without control characters."""
    return printable(str(text))


FILTERS: dict[str, Callable[..., Any]] = {
    "percent": percent,
    "minus": number_text.with_minus,
    "points": points,
    "amount": amount,
    "p": p_value,
    "interval": interval,
    "method": method,
    "method_of_run": lambda run: method({n: run.column(n) for n in ("method", "search")}),
    "evaluations": evaluations,
    "shown": shown,
}
