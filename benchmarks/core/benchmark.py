"""Accuracy benchmarks: runs of the evaluate command, with the results that are expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One run of the evaluate command. An expectation that is None is not checked.

    Args:
        label: name of the run in the report.
        arguments: arguments of ``python -m diffcls.evaluate``.
        min_accuracy: least accuracy, in 0-1.
        max_evaluations: largest mean number of evaluations per image.
        max_drop: largest drop in accuracy against the reference, in 0-1.
        min_p: least p of McNemar's test against the reference; below it the two runs differ.
    """

    label: str
    arguments: tuple[str, ...]
    min_accuracy: float | None = None
    max_evaluations: float | None = None
    max_drop: float | None = None
    min_p: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """A named set of runs.

    Args:
        name: name of the benchmark.
        title: title of its report.
        runs: its runs.
        reference: label of the run that all others are compared with, image by image.
        source: source of the expectations.
        write: (benchmark, rows by label, output folder, missed expectations) -> the report;
            None: a table of the runs (`benchmarks.accuracy.report`).
        file: file name of the report; empty: ``NAME.md``.
    """

    name: str
    title: str
    runs: tuple[Run, ...]
    reference: str
    source: str
    write: Callable[[Benchmark, Mapping[str, Any], Path, list[str]], str] | None = None
    file: str = ""
