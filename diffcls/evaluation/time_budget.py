"""Time budgets: the value of ``--budget``."""

from __future__ import annotations

import re

from diffcls.support.errors import UsageError
from diffcls.support.options import shortened

SECONDS_PER_HOUR = 3600.0
MAX_HOURS = 24.0 * 366
"""A year: longer budgets are slips of the keyboard."""

_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_TIME = re.compile(f"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?")


def read_time(text: str) -> float:
    """Seconds from ``90s``, ``30m``, ``2h`` or ``1h30m``.

    Raises:
        UsageError: for anything else, no time at all, or more than a year.
    """
    parts = _TIME.fullmatch(text.strip().lower())
    values = [float(part or 0) for part in parts.groups()] if parts else [0.0]
    seconds = sum(v * unit for v, unit in zip(values, (SECONDS_PER_HOUR, 60, 1), strict=False))
    if not 0 < seconds <= MAX_HOURS * SECONDS_PER_HOUR:
        raise UsageError(
            "--budget cannot be read",
            given=shortened(text),
            allowed="a time up to a year, such as 90m, 2h, 1h30m",
        )
    return seconds
