"""Page of the benchmark of cheaper evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.tables import environment_of, markdown
from diffcls.support.files import write_text

Row = Mapping[str, Any]
COLUMNS = (
    *("part", "subject", "measure", "gflop", "prefix", "keys_and_values"),
    *("evaluations_per_image", "milliseconds", "times_cheaper", "quarter_below", "quarter_above"),
    *("wall", "seconds_before", "images", "shortlist", "recall"),
)


def write_page(rows: Sequence[Row], output: Path) -> None:
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


def _operations(rows: list[Row]) -> Iterator[str]:
    yield "## Operations that do not depend on the prompt, or on the image"
    yield ""
    yield from markdown(
        rows,
        {
            "U-Net": _subject,
            "GFLOP per evaluation": lambda row: f"{row['gflop']:,.3g}",
            "before the first cross-attention": lambda row: f"{row['prefix']:.1%}",
            "keys and values": lambda row: f"{row['keys_and_values']:.1%}",
        },
    )


def _races(rows: list[Row]) -> Iterator[str]:
    yield "## Layers before the first cross-attention, shared by all classes: in use"
    yield ""
    yield "Racing on the same images; scores and evaluations are equal to the bit. Batches in which"
    yield "few classes share a draw are computed as a whole."
    yield ""
    yield from markdown(
        rows,
        {
            "data set": _subject,
            "evaluations per image": lambda row: f"{row['evaluations_per_image']:,.0f}",
            "ms each before": _milliseconds,
            "times cheaper": _times,
        },
    )


def _passes(rows: list[Row]) -> Iterator[str]:
    yield "## Forward passes of one batch: not in use"
    yield ""
    yield "Cached keys and values are looked up by row; outputs are equal to the bit. Two threads:"
    yield "their CPU time together. The clock needs idle cores; KERNELS.md compares them with two"
    yield "processes."
    yield ""
    yield from markdown(
        rows,
        {
            "model": _subject,
            "variant": lambda row: row["measure"],
            "ms each before": _milliseconds,
            "times cheaper": _times,
            "times faster by the clock": lambda row: f"{row['wall']:.2f}×",
            "before the first pass": lambda row: _seconds_of_cpu(row["seconds_before"]),
        },
    )


def _half_side(rows: list[Row]) -> Iterator[str]:
    yield "## Screening at half the side: not built"
    yield ""
    yield "Share of images whose winner of the race is among the best classes, by 2 draws of each"
    yield "class at the full side, or by 8 at half of it: equal cost, if half the side costs a"
    yield "quarter."
    yield ""
    half = {(r["subject"], r["shortlist"]): r for r in rows if r["measure"] == "half the side"}
    yield from markdown(
        (row for row in rows if row["measure"] == "full side"),
        {
            "data set": _subject,
            "images": lambda row: str(row["images"]),
            "shortlist": lambda row: str(row["shortlist"]),
            "full side": lambda row: f"{row['recall']:.0%}",
            "half the side": lambda r: f"{half[r['subject'], r['shortlist']]['recall']:.0%}",
        },
    )


def _subject(row: Row) -> str:
    return str(row["subject"])


def _milliseconds(row: Row) -> str:
    return f"{row['milliseconds']:.2f}"


def _seconds_of_cpu(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.0f} s of CPU"


def _times(row: Row) -> str:
    low, high = row["quarter_below"], row["quarter_above"]
    return f"{row['times_cheaper']:.2f}× ({low:.2f} to {high:.2f})"


SECTIONS: dict[str, Callable[[list[Row]], Iterator[str]]] = {
    "operations": _operations,
    "race": _races,
    "pass": _passes,
    "half_side": _half_side,
}
