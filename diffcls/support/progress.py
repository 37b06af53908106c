"""Progress of long work: a live bar on a terminal, elsewhere a line every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from diffcls.support.steps import Steps, describe_time
from diffcls.support.terminals import is_terminal

__all__ = ["SECONDS_BETWEEN_LINES", "Progress", "describe_time"]

SECONDS_BETWEEN_LINES = 30.0


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
