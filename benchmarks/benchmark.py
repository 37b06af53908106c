"""What a benchmark is: commands, what they should give, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One command of a benchmark.

    Args:
        label: names it in the report.
        arguments: of ``python -m diffcls.evaluate``.
        accuracy: expected, as (value, tolerance) in 0–1; None where nothing is expected.
        most_evaluations: evaluations an image at most, on average; None for no limit.
    """

    label: str
    arguments: tuple[str, ...]
    accuracy: tuple[float, float] | None = None
    most_evaluations: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """A named set of runs on the same images.

    Args:
        name: of the benchmark, and of its report.
        title: of the report.
        runs: the commands.
        reference: label of the run that all others are compared with, image by image.
        source: where the expected figures come from.
        hours, device: what it takes, roughly, and on what.
    """

    name: str
    title: str
    runs: tuple[Run, ...]
    reference: str
    source: str
    hours: float
    device: str
