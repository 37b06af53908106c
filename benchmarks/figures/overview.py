"""Figure of the README: the method above its results, overview.png.

Above, the walk of one image through the classifier. Below, from ``speed.csv`` and ``fidelity.csv``:
accuracy against cost of each search, and accuracy against FID over the training of a model.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.core.flags import entry_point, parser

# Okabe and Ito's colours; the markers tell the searches apart without any colour
SEARCHES: Mapping[str, tuple[str, str]] = {
    "exhaustive": ("#0072B2", "o"),
    "paper": ("#E69F00", "s"),
    "racing": ("#009E73", "D"),
    "gradient": ("#CC79A7", "v"),
}
BENCHMARKS = {"cifar10": "CIFAR-10, 10 classes", "scenes/attributes": "scenes, 96 classes"}
TRAINING = "fashion_mnist-pixels@"
"""Begins the model names of one training's checkpoints in ``fidelity.csv``."""
BELOW = ("exhaustive",)
"""Searches whose names stand below their intervals: points beside them have theirs above."""
INK, SOFT = "#222222", "#EAF2F8"

Row = Mapping[str, str]


def _main(arguments: list[str]) -> int:
    p = parser("overview", __doc__)
    p.add_argument("--output", type=Path, default=Path("docs/images/overview.png"), metavar="FILE")
    flags = p.parse_args(arguments)
    results = Path(flags.output_dir)

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(13.5, 7.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(0.46, 0.54))
    _diagram(top.subplots())
    *costs, training = bottom.subplots(1, len(BENCHMARKS) + 1)
    speed = _rows(results / "speed.csv")
    for axis, (benchmark, title) in zip(costs, BENCHMARKS.items(), strict=True):
        _cost(axis, [r for r in speed if r["benchmark"] == benchmark], title)
    _training(training, _rows(results / "fidelity.csv"))
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(flags.output, dpi=110, facecolor="white", metadata={"Software": None})
    print(flags.output)
    return 0


main = entry_point(_main)


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _diagram(axis: Any) -> None:
    """One image, noised once per draw and scored under every class's prompt."""
    axis.set(xlim=(0, 135), ylim=(0, 45))
    axis.axis("off")
    boxes = [
        (1, 18, 15, "image", "encoded once:\n$x_0$"),
        (
            23,
            18,
            24,
            "noised, the same\nfor every class",
            "$x_t = \\alpha_t x_0 + \\sigma_t\\varepsilon$",
        ),
        (54, 18, 20, "diffusion model", "predicts the noise:\n$\\hat\\varepsilon(x_t, t, c)$"),
        (81, 18, 22, "error table", "classes × draws:\n$\\|\\varepsilon - \\hat\\varepsilon\\|^2$"),
        (110, 18, 23, "least mean error", "= the label, with\na probability"),
    ]
    for x, y, width, title, text in boxes:
        _box(axis, x, y, width, title, text)
    for (x, _, width, *_), (after, *_) in pairwise(boxes):
        _arrow(axis, (x + width, 26), (after, 26))
    _box(axis, 51, 36, 26, "", "prompts, one per class:\n“a photo of a cat” …", height=8)
    _arrow(axis, (64, 36), (64, 34.2))
    # the search: from the table back to the draws
    axis.plot([92, 92, 35], [18, 7, 7], color=INK, linewidth=1.6)
    _arrow(axis, (35, 7), (35, 18))
    axis.text(
        63.5,
        3.2,
        "the search requests the next draws (timestep, noise) of the classes still in the race;\n"
        "racing drops a class once it is confidently behind the leader",
        ha="center",
        va="center",
        fontsize=11,
        color=INK,
    )


def _box(
    axis: Any, x: float, y: float, width: float, title: str, text: str, height: float = 16
) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=1.5"
    axis.add_patch(FancyBboxPatch((x, y), width, height, style, facecolor=SOFT, edgecolor=INK))
    middle = x + width / 2
    if title:
        axis.text(middle, y + 0.75 * height, title, ha="center", va="center", weight="bold")
    at = y + (0.28 if title else 0.5) * height
    axis.text(middle, at, text, ha="center", va="center", fontsize=11, color=INK)


def _arrow(axis: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", xy=end, xytext=start, arrowprops=arrow)


def _cost(axis: Any, rows: Sequence[Row], title: str) -> None:
    """Accuracy with its 95 % interval against evaluations per image, at default settings."""
    for search, (colour, marker) in SEARCHES.items():
        chosen = [r for r in rows if r["search"] == search]
        # the full table has no default: its longest one is shown
        by_cost = sorted(chosen, key=lambda r: float(r["evaluations_per_image"]))
        default = [r for r in by_cost if r["setting"] == "default"] or by_cost[-1:]
        # of 10 classes `gradient` is `racing`: its point would hide the other
        if not default or (search == "gradient" and "10 classes" in title):
            continue
        row = default[0]
        accuracy, low, high = (100 * float(row[k]) for k in ("accuracy", "ci_low", "ci_high"))
        axis.errorbar(
            float(row["evaluations_per_image"]),
            accuracy,
            yerr=[[accuracy - low], [high - accuracy]],
            color=colour,
            marker=marker,
            markersize=9,
            capsize=3,
            linestyle="none",
        )
        _label(axis, search, float(row["evaluations_per_image"]), low, high, colour)
    axis.set_xscale("log")
    axis.margins(x=0.18, y=0.12)
    axis.set(title=title, xlabel="evaluations of the network per image", ylabel="accuracy, %")
    axis.grid(alpha=0.3)


def _label(axis: Any, text: str, x: float, low: float, high: float, colour: str) -> None:
    """A point's name above its interval, or below where a neighbour's is above."""
    below = text in BELOW
    place = {"textcoords": "offset points", "fontsize": 11, "ha": "center"}
    at, shift, side = (low, -5, "top") if below else (high, 4, "bottom")
    axis.annotate(text, (x, at), (0, shift), color=colour, weight="bold", va=side, **place)


def _training(axis: Any, rows: Sequence[Row]) -> None:
    """Accuracy against FID of the checkpoints of one training, averaged weights."""
    points = sorted(
        (int(r["training_images"]), float(r["value"]), 100 * float(r["accuracy"]))
        for r in rows
        if r["model"].startswith(TRAINING) and "not averaged" not in r["model"]
        if r["metric"] == "FID" and r["accuracy"]
    )
    fid, accuracy = [p[1] for p in points], [p[2] for p in points]
    axis.plot(fid, accuracy, color="#0072B2", marker="o", markersize=8)
    for images, x, y in points:
        label = f"{round(images / 1000):,}k images"
        shift = (-20, 9) if images == points[-1][0] else (8, -14)
        axis.annotate(label, (x, y), shift, textcoords="offset points", fontsize=10)
    axis.set_xscale("log")
    axis.invert_xaxis()
    axis.margins(x=0.25, y=0.15)
    axis.set(title="Fashion-MNIST, over training of the model", ylabel="accuracy, %")
    axis.set_xlabel("FID by a small CLIP; better to the right")
    axis.grid(alpha=0.3)
