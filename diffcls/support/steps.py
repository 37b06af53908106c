"""Steps of a long work: how many are done, at what rate, and the time left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


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


def describe_time(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
