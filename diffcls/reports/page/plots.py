"""The plots of a report; each is one SVG element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from diffcls.reports.page.races import TimeBin
from diffcls.reports.page.reliability import Calibration
from diffcls.reports.page.results import Settled
from diffcls.reports.page.svg import FIRST, FOURTH, INK, SECOND, THIRD, Plot
from diffcls.support.types import Float64, Int64

MAX_POINTS = 200
SERIES = (FIRST, SECOND, THIRD, FOURTH)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def _thinned(count: int) -> Int64:
    """At most `MAX_POINTS` positions of `count`, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(np.int64))


def _percent(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def settled_plot(values: Settled) -> str:
    """Accuracy against evaluations: fractions finished, and finished and correct."""
    at = _thinned(len(values.evaluations))
    with Plot() as plot:
        axes, x = plot.axes, values.evaluations[at]
        axes.step(x, values.finished[at], where="post", color=SECOND, ls="--", label="finished")
        axes.step(x, values.correct[at], where="post", color=FIRST, label="finished and correct")
        axes.set(xlabel="evaluations per image, at most", ylim=(0, 1.03))
        _percent(axes.yaxis)
        plot.legend()
    return plot.svg


def histogram_plot(evaluations: Int64) -> str:
    """Number of images by evaluations."""
    with Plot() as plot:
        low, high = int(evaluations.min()), int(evaluations.max())
        edges = np.linspace(low, high + 1, min(30, high - low + 1) + 1)
        counts, _ = np.histogram(evaluations, edges)
        plot.axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=FIRST, linewidth=0)
        median = float(np.median(evaluations))
        plot.axes.axvline(median, color=SECOND, ls="--", label=f"median {median:.4g}")
        plot.axes.set(xlabel="evaluations of an image", ylabel="images")
        plot.legend()
    return plot.svg


def reliability_plot(calibration: Calibration) -> str:
    """Accuracy against confidence, before and after temperature scaling."""
    with Plot((4.2, 3.2)) as plot:
        axes = plot.axes
        axes.plot([0, 1], [0, 1], color=INK, lw=0.9, ls=":", label="calibrated")
        before = calibration.before
        pairs = [(before, FIRST, "o", f"as it is, ECE {100 * before.ece:.2f} %")]
        if (after := calibration.after) is not None:
            pairs.append((after, SECOND, "s", f"with temperature, ECE {100 * after.ece:.2f} %"))
        for one, colour, marker, label in pairs:
            x, y = [b.confidence for b in one.bins], [b.accuracy for b in one.bins]
            share = np.array([b.n for b in one.bins]) / sum(b.n for b in one.bins)
            # areas show how many images a point stands for
            axes.scatter(x, y, 8 + 130 * share, color=colour, marker=marker, linewidths=0)
            axes.plot(x, y, color=colour, lw=1.2, label=label)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.03))
        _percent(axes.xaxis)
        _percent(axes.yaxis)
        plot.legend(1)
    return plot.svg


def errors_plot(bins: Sequence[TimeBin]) -> str:
    """Error against timestep, of the label and of its closest rival."""
    with Plot() as plot:
        x = [(b.low + b.high) / 2 for b in bins]
        series = (
            ("label_error", FIRST, "o", "label"),
            ("rival_error", SECOND, "s", "closest rival"),
        )
        for name, colour, marker, label in series:
            y = [getattr(b, name) for b in bins]
            plot.axes.plot(x, y, color=colour, marker=marker, label=label)
        plot.axes.set(xlabel="timestep", ylabel="mean error", xlim=(0, None))
        plot.axes.set_yscale("log")
        plot.legend()
    return plot.svg


def contribution_plot(bins: Sequence[TimeBin]) -> str:
    """What each part of the timesteps contributes to the lead of the label."""
    with Plot() as plot:
        axes = plot.axes
        x, width = [b.low for b in bins], [max(b.high - b.low, 1.0) for b in bins]
        y = [b.difference for b in bins]
        colours = [FIRST if value >= 0 else SECOND for value in y]
        axes.bar(x, y, [0.92 * w for w in width], align="edge", color=colours, linewidth=0)
        at = [a + 0.46 * w for a, w in zip(x, width, strict=True)]
        axes.errorbar(
            at, y, [b.stderr or 0.0 for b in bins], fmt="none", ecolor=INK, elinewidth=1.1
        )
        axes.axhline(0, color=INK, lw=0.9)
        axes.set(xlabel="timestep", ylabel="rival − label, ± s.e.", xlim=(0, None))
    return plot.svg


def alive_plot(alive: Float64) -> str:
    """Mean number of classes evaluated at each draw."""
    with Plot() as plot:
        draws = np.arange(1, len(alive) + 1)
        plot.axes.step(draws, alive, where="mid", color=FIRST)
        plot.axes.set(xlabel="draw", ylabel="classes alive, mean", ylim=(0, None))
    return plot.svg


def cost_plot(points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Accuracy against evaluations per image: method -> points of its runs."""
    with Plot((4.6, 3.2)) as plot:
        axes = plot.axes
        styles = zip(cycle(SERIES), cycle(MARKERS), strict=False)
        for (method, values), (colour, marker) in zip(points.items(), styles, strict=False):
            x, y = zip(*values, strict=True)
            axes.plot(x, y, ls="", marker=marker, ms=6, color=colour, label=method)
        axes.set_xscale("symlog", linthresh=1)
        axes.set(xlabel="evaluations per image", ylabel="accuracy", xlim=(-0.15, None))
        _percent(axes.yaxis)
        plot.legend(2)
    return plot.svg
