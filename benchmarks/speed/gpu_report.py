"""results/reference/GPU.md: measurements of each accelerator, and the columns of their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.tables import read_rows
from diffcls.support.files import write_text

PAGE = "GPU.md"
PEAK = "matrix product"

COLUMNS: dict[str, tuple[Callable[[Any], str] | None, str]] = {
    "device": (None, "name of the device"),
    "network": (str, "the model whose size the network has; its weights are random"),
    "measure": (str, "the change, on top of those kept in the rows before; or what was run"),
    "dtype": (str, "precision of the network's weights"),
    "batch": ("{:.0f}".format, "rows of a forward pass; of the matrix product, the matrix's side"),
    "evaluations_per_second": ("{:,.1f}".format, "forward passes of one row per second"),
    "gain": ("{:.2f}×".format, "evaluations per second relative to the changes kept before"),
    "kept": (str, "whether the change stays for the rows that follow"),
    "tflops": (
        "{:,.1f}".format,
        "10¹² floating-point operations per second, at the count of an evaluation without changes",
    ),
    "share_of_measured_peak": ("{:.1%}".format, "tflops relative to the device's matrix product"),
    "share_of_data_sheet_peak": ("{:.1%}".format, "tflops relative to the maker's data sheet"),
    "memory_gib": ("{:.1f}".format, "weights, and the most that the measurement adds, in GiB"),
    "largest_difference": ("{:.2g}".format, "of the output, from float32 with plain attention"),
    "of_bare_network": ("{:.1%}".format, "evaluations per second relative to the network alone"),
    "images_per_second": ("{:.3g}".format, "images scored per second"),
    "first_pass_seconds": (None, "time of the first forward pass, compilation included"),
    "seconds": (None, "time that the row took"),
    "torch": (None, "version of torch"),
    "note": (str, "why there is no figure, or what it is of"),
}
"""Column of gpu-DEVICE.csv -> how the page shows its values (None: not in the table), its meaning.
"""


def write_page(output: Path) -> None:
    """Write GPU.md from all tables of accelerators in a folder.

    Args:
        output: folder of the results.

    Raises:
        UsageError: if it has no such table.
    """
    tables = sorted(output.glob("gpu-*.csv")) or [output / "gpu-DEVICE.csv"]
    lines = [
        "# Evaluations per second on accelerators",
        "",
        "Written by `python -m benchmarks.run gpu`, whose docstrings say how it is measured, from "
        "`gpu-DEVICE.csv`. The networks have the configs of the published models and random "
        "weights, so speed, memory and precision are those of the real ones, and accuracy is not "
        "measured. Each change is measured on top of those that were kept; “kept” are those that "
        "are faster and give the same answers.",
    ]
    for table in tables:
        lines += ["", *_section(table.name, read_rows(table))]
    lines += ["", "## Columns of the tables", ""]
    lines += [f"- `{name}`: {meaning}" for name, (_, meaning) in COLUMNS.items()]
    write_text(output / PAGE, "\n".join([*lines, ""]))


def _section(file: str, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One device: its peak, then a table without the columns that are empty."""
    torch = next((row["torch"] for row in rows if row.get("torch")), None)
    yield f"## {rows[0]['device']}"
    yield ""
    yield f"From [{file}]({file})" + (f", torch {torch}." if torch else ".") + _peak(rows)
    shown = {
        name: show
        for name, (show, _) in COLUMNS.items()
        if show is not None and any(row.get(name) is not None for row in rows)
    }
    yield ""
    yield "| " + " | ".join(name.replace("_", " ") for name in shown) + " |"
    yield "|" + "---|" * len(shown)
    for row in rows:
        if row["measure"] != PEAK:
            cells = (_cell(show, row.get(name)) for name, show in shown.items())
            yield "| " + " | ".join(cells) + " |"


def _peak(rows: Sequence[dict[str, Any]]) -> str:
    """The measured peak, in a sentence; empty where it was not measured."""
    for row in rows:
        if row["measure"] == PEAK and row.get("tflops") is not None:
            side = int(row["batch"])
            return (
                f" Its measured peak, a product of two {side} × {side} matrices in "
                f"{row['dtype']}, is {row['tflops']:,.1f} TFLOP/s."
            )
    return ""


def _cell(show: Callable[[Any], str], value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    if text in ("True", "False"):
        return "yes" if text == "True" else "no"
    return show(value).replace("|", "\\|")
