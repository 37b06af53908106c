"""results/reference/GROWTH.md and growth.png: scaling with classes, images and batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.tables import environment_of
from diffcls.support.files import write_text

Row = dict[str, Any]


def write_page(rows: Sequence[Row], output: Path) -> None:
    """Write the page and the plot.

    Args:
        rows: rows of growth.csv.
        output: folder of the results, with the environment of the benchmark.
    """
    lines = [
        "# Scaling with the number of classes, images and batch size",
        "",
        "Written by `python -m benchmarks.run classes` from `growth.csv`: scenes of one rendering, "
        f"one thread per process; {environment_of(output, 'classes')['environment']}. A backward "
        "pass counts as two evaluations, a gradient therefore as three. Memory is the peak above "
        "the loaded model with its libraries and kernels; set-up is the encoding of the prompts. "
        "Recall is the share of images on which racing's prediction is among the first ten classes "
        "of the ranking, the number that a screen passes to its race; the difference in accuracy, "
        "its paired 95 % interval (Newcombe 1998, method 10) and p (McNemar's exact test) are vs "
        "racing on the same images. Intervals of accuracies are Wilson's. The evaluations of a "
        "fit, which needs no labels, are divided "
        "by the images scored and stand beside those of the images. Evaluations per second, set-up "
        "and memory are those of short runs, each on a core of its own and with a small fit; "
        "images per second follow from them and from the evaluations per image.",
        "",
        "![evaluations and accuracy against the number of classes](growth.png)",
        "",
        "| varied | classes | search | images | batch size | accuracy | 95 % interval | "
        "evaluations per image | of the fit | images/s | evaluations/s | set-up, s | memory, MiB | "
        "recall | difference to racing | 95 % interval | p |",
        "|" + "---|" * 17,
    ]
    lines += [
        f"| {r['what']} | {r['classes']:,} | {r['search']} | {r['images']} | "
        f"{_cell(r['batch'], '')} | "
        f"{r['accuracy']:.1%} | {r['ci_low']:.1%} to {r['ci_high']:.1%} | "
        f"{r['evaluations_per_image']:,.1f} | {_cell(r.get('fit_evaluations'), ',.1f')} | "
        f"{_cell(r['images_per_second'], '.2f')} | {_cell(r['evaluations_per_second'], ',.0f')} | "
        f"{_cell(r['setup_seconds'], '.1f')} | {_cell(r['memory_mib'], '.0f')} | "
        f"{_compared_with_racing(r)} |"
        for r in rows
    ]
    fits = {r["search"]: r["fit"] for r in rows if r.get("fit")}
    lines += ["", *(f"- fit of `{search}`: {fit}" for search, fit in fits.items())]
    lines += ["", *_ratios(rows)]
    write_text(output / "GROWTH.md", "\n".join([*lines, ""]))
    plot([row for row in rows if row["what"] == "classes"], output / "growth.png")


def _compared_with_racing(row: Row) -> str:
    """Four cells: recall, difference, its interval and p."""
    if row["lost_to_racing"] is None:
        return " | | | "
    low, high = row.get("difference_low"), row.get("difference_high")
    interval = "" if low is None or high is None else f"{low:+.1%} to {high:+.1%}"
    difference = 0.0 - row["lost_to_racing"]  # never −0
    p = row["mcnemar_p_vs_racing"]
    return f"{_cell(row['recall'], '.1%')} | {difference:+.1%} | {interval} | {p:.3f}"


def _cell(value: float | None, format: str) -> str:
    return "" if value is None else f"{value:{format}}"


def _ratios(rows: Sequence[Row]) -> Iterator[str]:
    """Cost of the most classes relative to fewer, one line per search."""
    by_size = {(r["search"], r["classes"]): r for r in rows if r["what"] in ("classes", "memory")}
    counts = sorted({classes for _, classes in by_size})
    for search in dict.fromkeys(search for search, _ in by_size):
        most, least = (by_size.get((search, counts[n]), {}) for n in (-1, 0))
        ratios = []
        if most.get("memory_mib") and least.get("memory_mib"):
            ratio = most["memory_mib"] / least["memory_mib"]
            ratios.append(f"{ratio:.2f} times the memory of {counts[0]:,}")
        if most and (search, 100) in by_size:
            ratio = most["evaluations_per_image"] / by_size[search, 100]["evaluations_per_image"]
            ratios.append(f"{ratio:.1f} times the evaluations of 100")
        if ratios:
            yield f"- `{search}`: {counts[-1]:,} classes take {' and '.join(ratios)}."


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot evaluations and accuracy against the number of classes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for search in dict.fromkeys(row["search"] for row in rows):
        of_search = [row for row in rows if row["search"] == search]
        x = [row["classes"] for row in of_search]
        left.plot(x, [r["evaluations_per_image"] for r in of_search], marker="o", label=search)
        accuracy = [100 * r["accuracy"] for r in of_search]
        below = [a - 100 * r["ci_low"] for a, r in zip(accuracy, of_search, strict=True)]
        above = [100 * r["ci_high"] - a for a, r in zip(accuracy, of_search, strict=True)]
        right.errorbar(x, accuracy, yerr=[below, above], marker="o", capsize=3, label=search)
    left.plot(x, x, color="grey", linestyle=":", label="one per class")
    left.set_yscale("log")
    left.set_ylabel("evaluations per image")
    right.set_ylabel("accuracy, %")
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_xlabel("classes")
        axis.grid(alpha=0.3)
    left.legend(fontsize="small")
    figure.savefig(path, dpi=120)
