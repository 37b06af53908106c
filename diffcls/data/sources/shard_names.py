"""Names of shards: expansion of braces as in a shell, and natural order."""

from __future__ import annotations

import re
from itertools import pairwise, product

from diffcls.support.errors import UsageError

MAX_SHARDS = 100_000
MAX_BRACES = 20
RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")


def natural_key(path: str) -> list[tuple[int, str]]:
    """Key of natural sorting: 10.tar after 2.tar."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


# ---- braces --------------------------------------------------------------------------------------


def expand_braces(pattern: str) -> list[str]:
    """``{000..002}``, ``{a,b}`` and nested ones as a shell expands them, in order.

    Numbers have as many digits as the longer end of their range, if one of the ends starts with 0.
    Braces without a range or a comma are a part of the name.

    Raises:
        UsageError: for more than `MAX_SHARDS` names.
    """
    if pattern.count("{") > MAX_BRACES:
        raise _too_many(pattern)
    group = _first_group(pattern)
    if group is None:
        return [pattern]
    start, end, commas = group
    inside = None if commas else _numbers(pattern[start + 1 : end], pattern)
    if inside is None:
        ends = [start, *commas, end]
        parts = [pattern[a + 1 : b] for a, b in pairwise(ends)]
        inside = [one for part in parts for one in expand_braces(part)]
        inside = inside if commas else ["{" + one + "}" for one in inside]
    rest = expand_braces(pattern[end + 1 :])
    if len(inside) * len(rest) > MAX_SHARDS:
        raise _too_many(pattern)
    return [pattern[:start] + one + after for one, after in product(inside, rest)]


def _first_group(pattern: str) -> tuple[int, int, list[int]] | None:
    """Positions of the first pair of braces and of the commas between them; None without one."""
    start = pattern.find("{")
    depth, commas = 0, list[int]()
    for position in range(max(0, start), len(pattern) if start >= 0 else 0):
        character = pattern[position]
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return start, position, commas
        if character == "," and depth == 1:
            commas.append(position)
    return None


def _numbers(text: str, pattern: str) -> list[str] | None:
    """The numbers of a range in braces; None for any other text."""
    numbers = RANGE.fullmatch(text)
    if numbers is None:
        return None
    ends, step = numbers.groups()[:2], int(numbers[3] or 1) or 1
    first, last = map(int, ends)
    if abs(last - first) // step >= MAX_SHARDS:
        raise _too_many(pattern)
    padded = any(re.match(r"-?0\d", one) for one in ends)
    width = max(map(len, ends)) if padded else 0
    values = range(first, last + 1, step) if last >= first else range(first, last - 1, -step)
    return [f"{value:0{width}d}" for value in values]


def _too_many(pattern: str) -> UsageError:
    return UsageError(
        "--dataset webdataset:PATTERN: too many shards", pattern, f"at most {MAX_SHARDS:,}"
    )
