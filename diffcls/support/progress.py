"""Progress of long work: a live bar on a terminal, elsewhere a line every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from diffcls.support.terminals import is_terminal

SECONDS_BETWEEN_LINES = 30.0


@dataclass
class Steps:
    """State of a long work.

    Args:
        total: number of steps.
        title: the work, as it is shown.
        unit: name of a step.
        initial: number of steps that were done before this process.
        clock: time in seconds, from any start.
        details: further figures for the bar, computed each time it is shown; None: the values.
    """

    total: int
    title: str
    unit: str
    initial: int
    clock: Callable[[], float]
    details: Callable[[], Sequence[str]] | None = None
    values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.done = self.initial
        self.began = self.clock()

    def rate(self) -> float:
        """Steps per second of this process; 0 before the first one."""
        return (self.done - self.initial) / max(self.clock() - self.began, 1e-9)

    def seconds_left(self) -> float | None:
        """Time to the end at the present rate; None before the first step and after the last."""
        rate = self.rate()
        is_running = 0 < self.done < self.total and rate > 0
        return (self.total - self.done) / rate if is_running else None

    def figures(self) -> Sequence[str]:
        """What is known beside the count, most important first."""
        if self.details is not None:
            return self.details()
        return [f"{name} {value}" for name, value in self.values.items()]


class Progress:
    """Progress on stderr: a bar on a terminal, else one line every `SECONDS_BETWEEN_LINES`.

    A log file or a scheduler's output thus shows that a long work goes on, and when it may end.
    The bar is rich's, which is imported where there is a terminal only.

    Args:
        total: number of steps.
        title: the work, as it is shown.
        unit: name of a step.
        initial: number of steps that are done already.
        quiet: whether nothing is shown.
        clock: time in seconds, from any start.
        details: further figures for the bar, most important first, computed each time it is shown;
            None: the values of `set_values`.
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
        details: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._steps = Steps(total, title, unit, initial, clock, details)
        self._shown = self._steps.began
        self._has_lines = not quiet
        self._close: Callable[[], None] | None = None
        if not quiet and is_terminal(sys.stderr):
            from diffcls.support.progress_bar import show

            self._has_lines = False
            self._close = show(self._steps)

    def update(self, steps: int = 1) -> None:
        """Count steps that were done."""
        self._steps.done += steps
        if not self._has_lines:
            return
        now = self._steps.clock()
        if now - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = now
            print(f"diffcls: {self._line()}", file=sys.stderr, flush=True)

    def set_values(self, **values: str) -> None:
        """Show values beside the count, such as a running accuracy."""
        self._steps.values = values

    def _line(self) -> str:
        steps = self._steps
        text = f"{steps.title}: {steps.done:,} of {steps.total:,} {steps.unit}"
        text += "".join(f", {name} {value}" for name, value in steps.values.items())
        left = steps.seconds_left()
        return text if left is None else f"{text}, {describe_time(left)} left"

    def close(self) -> None:
        """End the work; a bar's last state stays visible."""
        if self._close is not None:
            self._close()
            self._close = None

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
