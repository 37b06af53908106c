"""results/reference/speed.png: accuracy against evaluations of every search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.speed.points import Point, find
from diffcls.metrics.statistics import wilson_interval


def plot(points_of: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Accuracy against evaluations on the images that `paper` scored, one panel per benchmark.

    The band is the 95 % interval of `paper`.

    Args:
        points_of: benchmark -> its points.
        path: the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(points_of), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(points_of), squeeze=False)[0]
    for axis, (name, points) in zip(axes, points_of.items(), strict=True):
        paper = find(points, "paper")
        low, high = wilson_interval(sum(paper.correct.values()), len(paper.correct))
        axis.axhspan(100 * low, 100 * high, color="grey", alpha=0.15)
        for number, search in enumerate(dict.fromkeys(p.search for p in points)):
            line = [p for p in points if p.search == search]
            line.sort(key=lambda p: p.evaluations_per_image)
            axis.plot(
                [p.evaluations_per_image for p in line],
                [100 * (paper.accuracy - p.drop_from(paper)) for p in line],
                marker="osD^vP*"[number % 7],
                color=f"C{number}",
                label=search,
                markersize=4,
                linewidth=1,
                linestyle="-" if search in ("exhaustive", "halving") else "none",
            )
        axis.set_xscale("log")
        axis.set_title(f"{name}, {len(paper.correct)} images")
        axis.set_xlabel("evaluations per image")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy, %")
    axes[-1].legend(fontsize="small")
    figure.savefig(path, dpi=120)
