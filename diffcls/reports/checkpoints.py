"""Compared checkpoints as a table for a terminal, a CSV file and a plot over training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diffcls.support.errors import UsageError
from diffcls.support.options import check_text
from diffcls.support.paths import expand
from diffcls.support.tables import align, text_cell

Row = Mapping[str, Any]
NO_VALUE = "-"


def format_checkpoints(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """The table, one line per checkpoint.

    Args:
        rows: see `diffcls.evaluation.checkpoints.CheckpointTable`.
        metrics: its metrics, in order.
    """
    columns: dict[str, list[str]] = {
        "checkpoint": [_printable(row["checkpoint"]) for row in rows],
        "images seen": [_number(row["training_images"], ",.0f") for row in rows],
    }
    for metric in metrics:
        if metric == "bits_per_dim":
            columns["bits/dim"] = [_with_error(row) for row in rows]
        elif metric == "FID":
            columns["FID"] = [_number(row["FID"], ".2f") for row in rows]
        else:
            columns |= _accuracy_columns(rows, metric)
    if any(row.get("curve_accuracy") is not None for row in rows):
        columns["card's curve"] = [_number(row["curve_accuracy"], ".1%") for row in rows]
    right = set(columns) - {"checkpoint"}
    return align([list(columns), *map(list, zip(*columns.values(), strict=True))], right)


def _accuracy_columns(rows: Sequence[Row], metric: str) -> dict[str, list[str]]:
    counted = [
        f"{row[f'{metric}_n_scored']}"
        if row[f"{metric}_n_scored"] == row[f"{metric}_n_asked"]
        else f"{row[f'{metric}_n_scored']} of {row[f'{metric}_n_asked']}"
        for row in rows
    ]
    low, high = f"{metric}_ci_low", f"{metric}_ci_high"
    columns = {
        f"{metric} [95 %]": [f"{r[metric]:.1%} [{r[low]:.1%}, {r[high]:.1%}]" for r in rows],
        "n": counted,
        "change": [_number(row[f"{metric}_difference"], "+.1%") for row in rows],
        "p": [_number(row[f"{metric}_p_previous"], ".3f") for row in rows],
        "p, last": [_number(row[f"{metric}_p_last"], ".3f") for row in rows],
    }
    if metric == "accuracy":
        return columns
    # the names of columns differ
    return {name if metric in name else f"{metric} {name}": c for name, c in columns.items()}


def csv_path(text: str) -> Path:
    """The file of ``--csv``, checked before the work.

    Raises:
        UsageError: for a folder, or a file in a folder that is missing.
    """
    check_text("--csv", text)
    path = Path(expand(text))
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            "--csv cannot write this file", given=text, allowed="a file in an existing folder"
        )
    return path


def csv_lines(rows: Sequence[Row]) -> list[list[str]]:
    """Header and rows for a CSV file; missing values are empty cells."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [names, *([_cell(row.get(name)) for name in names] for row in rows)]


PICTURES = (".png", ".pdf", ".svg")


def can_plot() -> bool:
    """Whether the plot's library is installed."""
    return find_spec("matplotlib") is not None


def check_plot(path: Path) -> None:
    """Check, before the work, that a plot can be written.

    Raises:
        UsageError: for another kind of file, a missing folder, or without matplotlib.
    """
    if path.suffix.lower() not in PICTURES or not path.parent.is_dir():
        raise UsageError(
            "--plot cannot write this file",
            given=str(path),
            allowed=f"{', '.join(PICTURES)} in an existing folder",
        )
    if not can_plot():
        raise UsageError("--plot needs matplotlib", todo='pip install "diffcls[report]"')


def plot_checkpoints(rows: Sequence[Row], metrics: Sequence[str], path: Path) -> None:
    """Plot each metric over training, with its 95 % interval, as a picture.

    The x axis has the training images where all checkpoints state them, else their names.

    Args:
        rows, metrics: see `format_checkpoints`.
        path: the picture; its suffix names its format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * len(metrics), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    images = [row["training_images"] for row in rows]
    by_images = None not in images and len(set(images)) == len(images)
    x = images if by_images else list(range(len(rows)))
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        values = [row[metric] for row in rows]
        axes.errorbar(
            x, values, yerr=_errors(rows, metric), marker="o", capsize=3, label="measured"
        )
        curve = [row.get("curve_accuracy") for row in rows]
        if metric == "accuracy" and any(value is not None for value in curve):
            shown = [float("nan") if value is None else value for value in curve]
            axes.plot(x, shown, "x", color="black", label="card's curve")
            axes.legend()
        if not by_images:
            names = [_printable(row["checkpoint"]) for row in rows]
            axes.set_xticks(x, names, rotation=45, ha="right")
            for label in axes.get_xticklabels():
                label.set_parse_math(False)  # a name with $ is no formula
        axes.set_xlabel("training images" if by_images else "checkpoint")
        axes.set_ylabel("bits per dimension" if metric == "bits_per_dim" else metric)
        axes.grid(alpha=0.3)
    with warnings.catch_warnings():
        # names may have letters that the plot's font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(path, dpi=120)


def _errors(rows: Sequence[Row], metric: str) -> list[list[float]] | None:
    """Distances of the interval's lower and upper end from the value, where there is one."""
    if f"{metric}_ci_low" in rows[0]:
        low = [max(0.0, row[metric] - row[f"{metric}_ci_low"]) for row in rows]
        return [low, [max(0.0, row[f"{metric}_ci_high"] - row[metric]) for row in rows]]
    if rows[0].get(f"{metric}_stderr") is not None:
        half = [1.96 * row[f"{metric}_stderr"] for row in rows]
        return [half, half]
    return None


def _with_error(row: Row) -> str:
    stderr = row["bits_per_dim_stderr"]
    return _number(row["bits_per_dim"], ".3f") + ("" if stderr is None else f" ± {stderr:.3f}")


def _number(value: float | None, form: str) -> str:
    return NO_VALUE if value is None else format(value, form)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else text_cell(value)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
