"""results/reference/fidelity.png: fidelity over guidance and over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, str]
SERIES = ("model", "dataset", "split", "extractor", "steps", "n")
"""Columns that are equal in a series over guidance."""
Series = tuple[str, ...]


def over_training(rows: Sequence[Row], metric: str, averaged: bool = True) -> list[Row]:
    """Rows of the snapshots of one training, by number of training images."""
    snapshots = [r for r in rows if "@" in r["model"] and r["metric"] == metric]
    chosen = [r for r in snapshots if r["model"].endswith("not averaged") != averaged]
    return sorted(chosen, key=lambda r: int(r["training_images"]))


def over_guidance(rows: Sequence[Row], metric: str) -> dict[Series, list[Row]]:
    """Series -> its rows of a metric, by guidance."""
    series_rows: dict[Series, list[Row]] = {}
    for row in rows:
        if row["metric"] == metric and row["guidance"] and "@" not in row["model"]:
            series_rows.setdefault(tuple(row[name] for name in SERIES), []).append(row)
    return {
        series: sorted(group, key=lambda r: float(r["guidance"]))
        for series, group in series_rows.items()
    }


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot FID over guidance and precision against recall; over training also accuracy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trained = bool(over_training(rows, "FID"))
    figure = Figure(figsize=(12, 3.8 * (1 + trained)), layout="constrained")
    FigureCanvasAgg(figure)
    guidance, trade, *training = figure.subplots(1 + trained, 2).flat
    recall = over_guidance(rows, "recall")
    precision = over_guidance(rows, "precision")
    for series, series_rows in over_guidance(rows, "FID").items():
        if len(series_rows) < 2:
            continue
        label = f"{series[SERIES.index('model')]}, by {series[SERIES.index('extractor')]}"
        x = [float(r["guidance"]) for r in series_rows]
        guidance.plot(x, [float(r["value"]) for r in series_rows], marker="o", label=label)
        both = [[float(r["value"]) for r in of.get(series, ())] for of in (recall, precision)]
        if len(both[0]) == len(both[1]):
            trade.plot(*both, marker="o", label=label)
    guidance.set(xlabel="guidance", ylabel="FID", yscale="log")
    trade.set(xlabel="recall", ylabel="precision")
    if trained:
        fidelity, likelihood = training
        extractors = ", ".join(dict.fromkeys(r["extractor"] for r in over_training(rows, "FID")))
        _plot_training(rows, "FID", fidelity, f"FID by {extractors}")
        _plot_training(rows, "bits_per_dim", likelihood, "bits per dimension, upper bound")
        fidelity.set_yscale("log")
        _plot_accuracy(rows, fidelity.twinx())
    for axis in (guidance, trade, *training):
        axis.grid(alpha=0.3)
    trade.legend(fontsize="small")  # its colours are also those of the left panel
    for axis in training:
        axis.legend(fontsize="small", loc="center right")
    figure.savefig(path, dpi=120)


def _plot_training(rows: Sequence[Row], metric: str, axis: Any, ylabel: str) -> None:
    """Plot a metric over training on matplotlib's axes."""
    for averaged, style in ((True, "-"), (False, ":")):
        series_rows = over_training(rows, metric, averaged)
        value, stderr = ([float(r[name] or 0) for r in series_rows] for name in ("value", "stderr"))
        label = f"{metric}, {'averaged' if averaged else 'last'} weights"
        axis.errorbar(_thousands(series_rows), value, stderr, ls=style, marker="o", label=label)
    axis.set(xlabel="training images, thousands", ylabel=ylabel)


def _plot_accuracy(rows: Sequence[Row], axis: Any) -> None:
    series_rows = [r for r in over_training(rows, "FID") if r["accuracy"]]
    accuracy = [100 * float(r["accuracy"]) for r in series_rows]
    axis.plot(_thousands(series_rows), accuracy, color="tab:green", marker="s")
    axis.set_ylabel("accuracy, % (squares)", color="tab:green")


def _thousands(rows: Sequence[Row]) -> list[float]:
    return [int(r["training_images"]) / 1000 for r in rows]
