"""Order of the accelerator benchmark's measurements, and their choice under a time budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
OUT_OF_TIME = "not measured: the time left is for what matters more"


@dataclass(frozen=True)
class Step:
    """One measurement.

    Args:
        network: name of the network; empty for the device's own figures.
        measure: name of the measurement.
        importance: 0 for the most important.
        seconds: rough time that it takes on an H100, the network's construction included.
        run: measures; returns the rows.
    """

    network: str
    measure: str
    importance: int
    seconds: float
    run: Callable[[], Iterable[Row]]


def is_affordable(step: Step, later: Sequence[Step], left: float) -> bool:
    """Whether a step fits into the time left, beside all that matters more and comes later.

    Args:
        step: the next step.
        later: steps after it.
        left: time left in seconds.
    """
    reserved = sum(other.seconds for other in later if other.importance < step.importance)
    return step.seconds + reserved <= left


def run_steps(
    steps: Sequence[Step], budget: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[Row]:
    """The rows of all steps, in their order; those for which no time is left say so.

    Args:
        steps: in order of execution: one network after the other, cheap changes first.
        budget: time in seconds, from now.
        clock: time in seconds, from any start.
    """
    began = clock()
    for i, step in enumerate(steps):
        if not is_affordable(step, steps[i + 1 :], budget - (clock() - began)):
            yield {"network": step.network, "measure": step.measure, "note": OUT_OF_TIME}
            continue
        start = clock()
        for row in _rows_of(step):
            taken = {"seconds": clock() - start}
            yield {"network": step.network, "measure": step.measure, **taken, **row}
            start = clock()


def _rows_of(step: Step) -> Iterator[Row]:
    """The rows of a step; an error ends it, and becomes a row."""
    try:
        yield from step.run()
    except Exception as error:  # whatever fails, the steps that follow are worth their figures
        first = (str(error).splitlines() or [""])[0]
        yield {"note": f"{type(error).__name__}: {first}"}
