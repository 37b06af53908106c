"""Options: what their values may be, and which of them have an effect.

A dataclass of options declares the range of each number with `within`, and text that is no name or
path with `free_text`; `check_values` reads these declarations. An options class whose options do
not all apply at once has a method ``unused``, and `read` refuses what was given without effect.
"""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_COUNT = 10**9
"""Upper limit of numbers of images, evaluations and the like."""
MAX_SEED = 2**63 - 1
MAX_WORKERS = 10**6
MAX_ROWS = 65_536
"""Rows of a forward pass."""
MAX_STEPS = 10_000
"""Steps of a sampler, or timesteps of a bound."""
MAX_WEIGHT = 10_000.0
"""Weight of guidance."""
MAX_NAME_BYTES = 255
"""Length of a file name that common file systems allow."""
SHOWN_CHARACTERS = 60
"""Characters of a long value that a message shows."""

Options = TypeVar("Options")
Part = TypeVar("Part", bound="DataclassInstance")


@dataclass(frozen=True)
class Range:
    """The numbers that an option may have.

    Args:
        low, high: lower and upper limit.
        whole: whether only whole numbers are allowed.
        is_open: whether the limits themselves are excluded.
        words: texts that are allowed instead of a number.
    """

    low: float
    high: float
    whole: bool = True
    is_open: bool = False
    words: tuple[str, ...] = ()

    def __contains__(self, value: object) -> bool:
        if isinstance(value, str):
            return value in self.words
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number: Any = value
        if self.is_open:
            return bool(self.low < number < self.high)
        return bool(self.low <= number <= self.high)

    def __str__(self) -> str:
        limits = f"{_shown(self.low)} to {_shown(self.high)}"
        if self.is_open:
            limits = f"above {_shown(self.low)}, below {_shown(self.high)}"
        return ", or ".join([limits, *self.words])


def _shown(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def within(
    low: float,
    high: float,
    default: Any = None,
    *,
    whole: bool = True,
    is_open: bool = False,
    words: tuple[str, ...] = (),
) -> Any:
    """A dataclass field of a number, or of a sequence of numbers, in a range; see `Range`."""
    allowed = Range(low, high, whole, is_open, words)
    return dataclasses.field(default=default, metadata={"range": allowed})


def free_text(default: Any = None, flag: str | None = None) -> Any:
    """A dataclass field of text that is no name or path: it may be long.

    Args:
        default: default of the field.
        flag: the flag's name where it is not the field's.
    """
    return dataclasses.field(default=default, metadata={"free": True, "flag": flag})


def flag_of(name: str) -> str:
    """The flag of an option: ``--batch-size`` of ``batch_size``."""
    return f"--{name.replace('_', '-')}"


def flags_of(kind: Any) -> dict[str, str]:
    """The flag of each field of a dataclass of options."""
    return {
        field.name: flag_of(field.metadata.get("flag") or field.name)
        for field in dataclasses.fields(kind)
    }


def check_values(options: Any) -> None:
    """Check all values of a dataclass of options against their declarations.

    Numbers are in the ranges that `within` declares. Texts and paths are neither empty nor blank,
    hold no control characters and are valid UTF-8; names in them are short enough for files. None
    passes: it means that the option was not given.

    Raises:
        UsageError: for the first value that is not allowed, by the name of its flag.
    """
    flags = flags_of(options)
    for field in dataclasses.fields(options):
        value, flag = getattr(options, field.name), flags[field.name]
        if value is None or value is field.default:
            continue
        allowed, values = field.metadata.get("range"), list(_each(value))
        if not values and field.default != ():
            raise _empty(flag, value)
        for one in values:
            if allowed is not None:
                _check_range(flag, one, allowed)
            elif isinstance(one, str | os.PathLike):
                check_text(flag, os.fspath(one), free=field.metadata.get("free", False))
        if isinstance(field.default, bool) and value not in (True, False):
            raise UsageError(f"{flag} is on or off", given=value, allowed="True or False")


def _each(value: Any) -> Iterable[Any]:
    if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable):
        return (value,)
    return value


def _check_range(flag: str, value: Any, allowed: Range) -> None:
    if isinstance(value, str) and not value.strip():
        raise _empty(flag, value)
    if value not in allowed:
        raise UsageError(f"{flag} out of range", given=value, allowed=str(allowed))


def check_text(flag: str, text: str | bytes, free: bool = False) -> None:
    """Check a text that was given for a flag.

    Args:
        flag: subject of the message.
        text: the value.
        free: whether it is neither name nor path, so that it may be long.

    Raises:
        UsageError: for an empty or blank text, a control character, bytes that are no UTF-8, or a
            name too long for a file.
    """
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text.strip():
        raise _empty(flag, text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{flag} is not valid UTF-8", given=shortened(text)) from None
    control = next((c for c in text if unicodedata.category(c) == "Cc"), None)
    if control is not None:
        raise UsageError(
            f"{flag} holds the control character {control!r}",
            given=shortened(text),
            todo="remove it; a script with Windows line ends adds \\r to its last argument",
        )
    longest = max(len(name.encode("utf-8")) for name in re.split(r"[/\\]", text))
    if not free and longest > MAX_NAME_BYTES:
        raise UsageError(
            f"{flag} holds a name of {longest} bytes",
            given=shortened(text),
            allowed=f"names of {MAX_NAME_BYTES} bytes at most",
        )


def _empty(flag: str, text: object) -> UsageError:
    return UsageError(f"{flag} is empty", given=text, todo="give a value, or remove the flag")


def shortened(text: str) -> str:
    """A text cut to the length that a message shows."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def parse_whole(text: str) -> int:
    """A whole number in ASCII digits: without spaces, ``_`` or other digits, unlike ``int``.

    Raises:
        ValueError: for anything else.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,40}", text):
        raise ValueError(f"not a whole number: {shortened(text)!r}")
    return int(text)


def parse_real(text: str) -> float:
    """A finite number in ASCII digits: without spaces, ``_``, ``nan`` or ``inf``.

    Raises:
        ValueError: for anything else.
    """
    number = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
    if len(text) > MAX_NAME_BYTES or not re.fullmatch(number, text):
        raise ValueError(f"not a finite number: {shortened(text)!r}")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"not a finite number: {shortened(text)!r}")
    return value


@runtime_checkable
class HasUnused(Protocol):
    """Options of which some have no effect, depending on others."""

    def unused(self) -> Mapping[str, str]:
        """Name of each option without effect -> why, as ``is of --method synthetic``."""
        ...


def read(kind: type[Options], arguments: Mapping[str, Any]) -> Options:
    """Options from keyword arguments; those that were given must have an effect.

    An argument counts as given unless it is None, also where it equals the default.

    Raises:
        UsageError: for an option that was given without effect, or whatever the class refuses.
    """
    options = kind(**arguments)
    refuse_unused(options, [name for name, value in arguments.items() if value is not None])
    return options


def part_of(options: object, kind: type[Part]) -> Part:
    """Options as one of their base classes has them.

    Args:
        options: options that derive from `kind`.
        kind: the base class; a dataclass.
    """
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})


def refuse_unused(options: object, given: Iterable[str]) -> None:
    """Raise UsageError for the given options that have no effect, by their flags."""
    if not isinstance(options, HasUnused):
        return
    reasons, flags = options.unused(), flags_of(options)
    idle = [name for name in given if name in reasons]
    if idle:
        todo = f"remove {' '.join(flags[name] for name in idle)}"
        raise UsageError(f"{flags[idle[0]]} {reasons[idle[0]]}", todo=todo)
