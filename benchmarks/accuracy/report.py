"""Report of an accuracy benchmark: one table of its runs, with paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.benchmark import Benchmark
from benchmarks.core.compare import compare, records_of

MET = "All expectations are met."
MISSED = "Missed expectations:"


def write_report(
    benchmark: Benchmark, rows: Mapping[str, Any], output: Path, missed: Sequence[str]
) -> str:
    """The report in Markdown.

    Args:
        benchmark: with the runs that were made.
        rows: label -> row of the leaderboard.
        output: folder of the records.
        missed: the expectations that are missed.
    """
    first = rows[benchmark.reference]
    reference = records_of(output, first["fingerprint"])
    lines = [
        f"# {benchmark.title}",
        "",
        f"Written by `python -m benchmarks.run {benchmark.name}`. Intervals are Wilson's at 95 %;"
        f" p is McNemar's exact test, image by image, against “{benchmark.reference}”."
        f" Expectations: {benchmark.source}.",
        "",
        "| run | accuracy | 95 % interval | mean per class | ECE | evaluations per image |"
        " seconds per image | same prediction | p | supervision |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in benchmark.runs:
        row = rows[run.label]
        p, equal = compare(records_of(output, row["fingerprint"]), reference)
        lines.append(
            f"| {run.label} | {row['accuracy']:.1%} | {row['ci_low']:.1%} to {row['ci_high']:.1%} "
            f"| {row['mean_per_class']:.1%} | {row['ece']:.3f} "
            f"| {row['evaluations_per_image']:.1f} | {row['seconds_per_image']:.3f} "
            f"| {equal} of {row['n_scored']} | {p:.3f} | {row['supervision']} |"
        )
    lines += ["", "| run | fingerprint | command |", "|---|---|---|"]
    lines += [
        f"| {run.label} | `{rows[run.label]['fingerprint']}` | `{rows[run.label]['command']}` |"
        for run in benchmark.runs
    ]
    lines += ["", *([MISSED, "", *missed] if missed else [MET]), ""]
    lines += [f"{first['device']}, {first['versions']}, commit {first['commit'] or 'unknown'}.", ""]
    return "\n".join(lines)
