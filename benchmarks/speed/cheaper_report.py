"""Page of the benchmark of cheaper evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.core.tables import environment_of
from diffcls.support.files import write_text

COLUMNS = (
    *("part", "subject", "measure", "gflop", "prefix", "keys_and_values"),
    *("evaluations_per_image", "milliseconds", "times_cheaper", "quarter_below", "quarter_above"),
    *("wall", "seconds_before", "images", "shortlist", "recall"),
)


def write_page(rows: list[dict[str, Any]], output: Path) -> None:
    """Write and print the page.

    Args:
        rows: rows of cheaper.csv.
        output: folder of the results, with the environment of the benchmark.
    """
    setup = environment_of(output, "cheaper_evaluations")
    lines = [
        "# Cheaper evaluations",
        "",
        "Written by `python -m benchmarks.run cheaper_evaluations` from `cheaper.csv`; "
        f"{setup['environment']}. How many times cheaper an evaluation is: the ratio of the "
        "process's CPU time, the median over blocks of images or rounds in which both ways take "
        "turns, with the quartiles in brackets.",
    ]
    for part, section in SECTIONS.items():
        of_part = [row for row in rows if row["part"] == part]
        if of_part:
            lines += ["", *section(of_part)]
    text = "\n".join([*lines, ""])
    write_text(output / "CHEAPER.md", text)
    print(text)


def _operations(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Operations that do not depend on the prompt, or on the image"
    yield ""
    yield "| U-Net | GFLOP per evaluation | before the first cross-attention | keys and values |"
    yield "|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['subject']} | {row['gflop']:,.3g} | {row['prefix']:.1%} | "
            f"{row['keys_and_values']:.1%} |"
        )


def _races(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Layers before the first cross-attention, shared by all classes: in use"
    yield ""
    yield "Racing on the same images; scores and evaluations are equal to the bit. Batches in which"
    yield "few classes share a draw are computed as a whole."
    yield ""
    yield "| data set | evaluations per image | ms each before | times cheaper |"
    yield "|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['subject']} | {row['evaluations_per_image']:,.0f} | "
            f"{row['milliseconds']:.2f} | {_times(row)} |"
        )


def _passes(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Forward passes of one batch: not in use"
    yield ""
    yield "Cached keys and values are looked up by row; outputs are equal to the bit. Two threads:"
    yield "their CPU time together, and the clock of a machine with other load; KERNELS.md has idle"
    yield "cores."
    yield ""
    yield (
        "| model | variant | ms each before | times cheaper | times faster by the clock | "
        "before the first pass |"
    )
    yield "|---|---|---|---|---|---|"
    for row in rows:
        before = row["seconds_before"]
        yield (
            f"| {row['subject']} | {row['measure']} | {row['milliseconds']:.2f} | {_times(row)} | "
            f"{row['wall']:.2f}× | {'–' if before is None else f'{before:.0f} s of CPU'} |"
        )


def _half_side(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Screening at half the side: not built"
    yield ""
    yield "Share of images whose winner of the race is among the best classes, by 2 draws of each"
    yield "class at the full side, or by 8 at half of it: equal cost, if half the side costs a"
    yield "quarter."
    yield ""
    yield "| data set | images | shortlist | full side | half the side |"
    yield "|---|---|---|---|---|"
    recall = {(r["subject"], r["shortlist"], r["measure"]): r["recall"] for r in rows}
    for row in rows:
        if row["measure"] == "full side":
            half = recall[row["subject"], row["shortlist"], "half the side"]
            yield (
                f"| {row['subject']} | {row['images']} | {row['shortlist']} | "
                f"{row['recall']:.0%} | {half:.0%} |"
            )


def _times(row: dict[str, Any]) -> str:
    low, high = row["quarter_below"], row["quarter_above"]
    return f"{row['times_cheaper']:.2f}× ({low:.2f} to {high:.2f})"


SECTIONS: dict[str, Callable[[list[dict[str, Any]]], Iterator[str]]] = {
    "operations": _operations,
    "race": _races,
    "pass": _passes,
    "half_side": _half_side,
}
