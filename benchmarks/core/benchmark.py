"""What a benchmark is: commands, what they should give, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One command of a benchmark.

    Args:
        label: names it in the report.
        arguments: of ``python -m diffcls.evaluate``.
        at_least: accuracy in 0–1 that it must reach.
        most_evaluations: evaluations an image at most, on average.
        most_lost: accuracy that it may lose to the reference, in 0–1.
        least_p: of McNemar's test against the reference: below it the two differ for sure.

    What is None is not expected.
    """

    label: str
    arguments: tuple[str, ...]
    at_least: float | None = None
    most_evaluations: float | None = None
    most_lost: float | None = None
    least_p: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """A named set of runs on the same images.

    Args:
        name: of the benchmark, and of its report.
        title: of the report.
        runs: the commands.
        reference: label of the run that all others are compared with, image by image.
        source: where the expectations come from.
        hours, device: what it takes, roughly, and on what.
        write: (benchmark, rows by label, output folder, misses) -> its report, where that has a
            shape of its own.
        file: name of the report; empty: ``NAME.md``.
    """

    name: str
    title: str
    runs: tuple[Run, ...]
    reference: str
    source: str
    hours: float
    device: str
    write: Callable[[Benchmark, Mapping[str, Any], Path, list[str]], str] | None = None
    file: str = ""
