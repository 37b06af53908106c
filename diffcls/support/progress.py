"""Progress of long work: a bar on a terminal, elsewhere a line every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Progress on stderr: tqdm's bar on a terminal, else one line every `SECONDS_BETWEEN_LINES`.

    A log file or a scheduler's output thus shows that a long work goes on, and when it may end.

    Args:
        total: number of steps.
        title: the work, as it is shown.
        unit: name of a step.
        initial: number of steps that are done already.
        quiet: whether nothing is shown.
        clock: time in seconds, from any start.
        options: further options of tqdm's bar.
    """

    def __init__(
        self,
        total: int,
        title: str,
        unit: str = "img",
        *,
        initial: int = 0,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=title,
            unit=unit,
            disable=True if quiet else None,
            **options,
        )
        self._total, self._title, self._unit = total, title, unit
        self._lines = bool(self._bar.disable) and not quiet
        self._done = self._initial = initial
        self._values: dict[str, str] = {}
        self._clock = clock
        self._began = self._shown = clock()

    def update(self, steps: int = 1) -> None:
        """Count steps that were done."""
        self._bar.update(steps)
        self._done += steps
        now = self._clock()
        if self._lines and now - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = now
            print(f"diffcls: {self._line(now)}", file=sys.stderr, flush=True)

    def set_values(self, **values: str) -> None:
        """Show values beside the count, such as a running accuracy."""
        self._values = values
        self._bar.set_postfix(values, refresh=False)

    def _line(self, now: float) -> str:
        text = f"{self._title}: {self._done:,} of {self._total:,} {self._unit}"
        text += "".join(f", {name} {value}" for name, value in self._values.items())
        rate = (self._done - self._initial) / max(now - self._began, 1e-9)
        if 0 < self._done < self._total and rate > 0:
            text += f", {describe_time((self._total - self._done) / rate)} left"
        return text

    def close(self) -> None:
        """End the work; a bar's last state stays visible."""
        self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def describe_time(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
