"""results/reference/OVERHEAD.md: the whole command, the bare network, the published procedure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.tables import environment_of
from diffcls.support.files import write_text

PUBLISHED_BATCH = 32
MIN_EVALUATIONS = 30_000
"""Evaluations above which the last, partly filled batches hardly count."""
RATIO = "images per second relative to the published procedure"
WHOLE_COMMAND = "whole command"

COLUMNS: dict[str, Callable[[Any], str]] = {
    "dataset": str,
    "what": str,
    "search": str,
    "images": "{:,.0f}".format,
    "batch": "{:.0f}".format,
    "evaluations": "{:,.0f}".format,
    "seconds": "{:.1f}".format,
    "evaluations_per_second": "{:,.0f}".format,
    "images_per_second": "{:.3g}".format,
    "batches_full": "{:.1%}".format,
    "of_bare_network": "{:.1%}".format,
    "times": "{:.1f}×".format,
    "accuracy": "{:.1%}".format,
}
"""Column of overhead.csv -> how the page shows its values."""

TARGETS = (
    ("of_bare_network", 0.9, "of the bare network's evaluations/s, target {:.0%}"),
    ("batches_full", 0.95, "of the batches' rows used, target {:.0%}"),
    ("times", 40, "the images/s of the published procedure, target {:.0f}×"),
)


def write_page(rows: Sequence[dict[str, Any]], output: Path) -> None:
    """Write and print the page.

    Args:
        rows: rows of overhead.csv.
        output: folder of the results, with the environment of the benchmark.
    """
    lines = [
        "# Throughput of the whole command, the bare network and the published procedure",
        "",
        "Written by `python -m benchmarks.run throughput` from `overhead.csv`, on "
        f"{environment_of(output, 'throughput')['environment']}. Seconds of the whole command are "
        "from its first to its last scored batch; those of the published procedure are from "
        "opening the first image to the last prediction. The published procedure scores one image "
        f"after the other in batches of {PUBLISHED_BATCH} that images do not share; free rows of "
        "its batches are filled with speculative evaluations, as everywhere in this package, so "
        "running it here does not slow it down. “Batches full” is the share of the batches' rows "
        "whose results were used in the end (continuous batching).",
        "",
        "| " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for row in rows:
        cells = [show(row[n]) if row.get(n) is not None else "" for n, show in COLUMNS.items()]
        lines.append("| " + " | ".join(cells) + " |")
    text = "\n".join([*lines, "", *_targets(rows), ""])
    write_text(output / "OVERHEAD.md", text)
    print(text)


def _targets(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The targets, each with the measured value and a verdict."""
    for row in rows:
        if row["what"] not in (WHOLE_COMMAND, RATIO):
            continue
        few = (row.get("evaluations") or MIN_EVALUATIONS) < MIN_EVALUATIONS
        for name, target, text in TARGETS:
            if row.get(name) is not None:
                verdict = "met" if row[name] >= target else "missed"
                note = f" (fewer than {MIN_EVALUATIONS:,} evaluations)" * few
                shown = COLUMNS[name](row[name])
                yield f"- {row['dataset']}: {shown} {text.format(target)}: {verdict}{note}."
