"""results/reference/SPEED.md and speed.csv: evaluations and accuracy of every search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.tables import read_rows, write_rows
from benchmarks.speed.plot import plot
from benchmarks.speed.points import COLUMNS, Point, find, pooled
from diffcls.support.files import write_text

DEFAULT_DRAWS = 40
"""Default ``--draws`` of racing."""
POOLED = ("digits", "fashion_mnist")
"""Benchmarks that are also reported as one: their classes are easy to separate."""
MAX_KNEE_DROP = 0.01
"""Largest accuracy drop against `paper` at the knee, in 0-1."""

PointsOf = Mapping[str, Sequence[Point]]
"""Benchmark -> its points."""


def write(points: Sequence[Point], output: Path, environment: str = "") -> None:
    """Write the table, the page and the plot.

    Rows of other benchmarks stay in speed.csv, in a section of their own on the page.

    Args:
        points: points of all benchmarks whose answers are stored.
        output: folder of the results.
        environment: devices and versions of the measurements.
    """
    points_of = {name: [p for p in points if p.benchmark == name] for name in _names(points)}
    rows = [p.row(find(group, "paper")) for group in points_of.values() for p in group]
    table = output / "speed.csv"
    earlier = read_rows(table) if table.exists() else []
    earlier = [row for row in earlier if row["benchmark"] not in points_of]
    write_rows(table, [*rows, *earlier], COLUMNS)
    page = [*_page(points_of, f" on {environment}" if environment else ""), *_earlier(earlier)]
    write_text(output / "SPEED.md", "\n".join(page))
    plot(points_of, output / "speed.png")


def _names(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.benchmark for point in points))


def _page(points_of: PointsOf, environment: str) -> Iterator[str]:
    yield from ("# Searches: accuracy against evaluations", "")
    yield (
        f"Written by `python -m benchmarks.run searches`{environment}. `racing` is best-arm "
        "identification by paired differences, `halving` is successive halving, `gradient` "
        "screens the classes before a race, `paper` is the published procedure (on even "
        "draws and a part of the same images), and the full table is `exhaustive` on all draws. "
        "Every class was scored on every draw once, for all images of a table; searches that need "
        "only these errors were replayed from them, all others were run. An evaluation is one "
        "forward pass of the network for one image; a backward pass counts as two. “Drop vs "
        "`paper`” is the difference in accuracy on the images of both, whose number is in "
        "brackets (negative: better than `paper`); p is McNemar's exact test on these images. "
        "Intervals are Wilson's at 95 %. Images per second include encoding and scoring on one "
        "thread, with two runs side by side; `OVERHEAD.md` measures the whole command. Settings "
        "were chosen on validation images, never on these."
    )
    yield from ("", "![accuracy against evaluations](speed.png)", "", "## Default settings", "")
    yield from _defaults_table(points_of)
    yield from ("", "## The knee", "")
    yield (
        "The fewest evaluations with which a search, over all its settings, drops at most one "
        "point vs `paper` on the images of both. The settings were selected on the same images: "
        "they show where the curve bends, not what a setting chosen beforehand would reach."
    )
    yield from ("", *_knees(points_of))
    yield from ("", "## Recall of the screens", "")
    yield (
        "Share of the images on which the class that the full table predicts, and the correct "
        "class, are in the search's shortlist: the first classes of its ranking, as many as it "
        "passes to its race. Classes that were screened out are ranked by their estimated "
        "difference to the leader, so the share that was in the race is at most this. The last "
        "column is the share of predictions that differ from the full table's."
    )
    yield from ("", *_screens(points_of))
    yield from ("", "## Requested confidence and observed disagreement", "")
    yield (
        "Share of predictions of racing with N draws that differ from the full table of the same "
        "N draws; in brackets, the share that the requested confidence is about: clear errors, on "
        "which the full table favours another class by more than two of its own standard errors. "
        "All others are ties within the accuracy of the full table."
    )
    yield from ("", *_confidence(points_of))
    for name, points in points_of.items():
        yield from ("", f"## {name}: every setting", "", *_every_setting(points))
    yield ""


def _defaults_table(points_of: PointsOf) -> Iterator[str]:
    yield (
        "| benchmark | search | images | accuracy | 95 % interval | evaluations per image | fewer "
        "than `paper` | drop vs `paper` | p | drop vs full table | p | images/s |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for points in points_of.values():
        yield from _default_rows(points)
    if all(name in points_of for name in POOLED):
        runs = zip(*(_defaults(points_of[name]) for name in POOLED), strict=True)
        yield from _default_rows([pooled(same, " + ".join(POOLED)) for same in runs])


def _defaults(points: Sequence[Point]) -> list[Point]:
    """The points at default settings, which were run, not replayed."""
    return [p for p in points if p.images_per_second and "candidates" not in p.setting]


def _default_rows(points: Sequence[Point]) -> Iterator[str]:
    paper, full = find(points, "paper"), find(points, "exhaustive")
    for point in _defaults(points):
        row = point.row(paper)
        times = paper.evaluations_per_image / point.evaluations_per_image
        yield (
            f"| {point.benchmark} | {point.search} | {row['n']} | {point.accuracy:.1%} | "
            f"{row['ci_low']:.1%} to {row['ci_high']:.1%} | {point.evaluations_per_image:,.1f} | "
            f"{times:.0f}× | {_drop_cells(point, paper)} | {_drop_cells(point, full)} | "
            f"{row['images_per_second']:.2f} |"
        )


def _knees(points_of: PointsOf) -> Iterator[str]:
    yield "| benchmark | search | setting | evaluations per image | drop vs `paper` | p |"
    yield "|---|---|---|---|---|---|"
    for name, points in points_of.items():
        paper = find(points, "paper")
        for search in dict.fromkeys(p.search for p in points if p is not paper):
            of_search = [p for p in points if p.search == search]
            close = [p for p in of_search if p.drop_from(paper) <= MAX_KNEE_DROP]
            if not close:
                yield f"| {name} | {search} | none | | | |"
                continue
            point = min(close, key=_cost)
            yield (
                f"| {name} | {search} | {point.setting} | {_cost(point):,.1f} | "
                f"{_drop_cells(point, paper)} |"
            )


def _screens(points_of: PointsOf) -> Iterator[str]:
    yield (
        "| benchmark | search | setting | contains the full table's class | contains the correct "
        "class | differs from the full table |"
    )
    yield "|---|---|---|---|---|---|"
    for name, points in points_of.items():
        full = find(points, "exhaustive")
        for point in (p for p in points if p.screened):
            correct = sum(point.labels[i] in kept for i, kept in point.screened.items())
            yield (
                f"| {name} | {point.search} | {point.setting} | {point.recall(full):.1%} | "
                f"{correct / len(point.screened):.1%} | {point.disagreement(full):.1%} |"
            )


def _confidence(points_of: PointsOf) -> Iterator[str]:
    races = [p for points in points_of.values() for p in points if p.search == "racing"]
    settings = [p.setting.partition(" ")[0] for p in races if p.setting.startswith("confidence=")]
    yield "| racing | " + " | ".join(points_of) + " |"
    yield "|---|" + "---|" * len(points_of)
    for confidence in dict.fromkeys(settings):
        for default in (True, False):
            cells = []
            for points in points_of.values():
                full_setting = find(points, "exhaustive").setting
                draws = f"draws={DEFAULT_DRAWS}" if default else full_setting
                point = find(points, "racing", f"{confidence} {draws}")
                differs = point.disagreement(find(points, "exhaustive", draws))
                clear = "" if point.clear is None else f" ({point.clear:.1%})"
                cells.append(f"{differs:.1%}{clear} at {_cost(point):,.0f} evaluations")
            label = f"N = {DEFAULT_DRAWS}" if default else "N = all draws"
            yield f"| {confidence}, {label} | " + " | ".join(cells) + " |"


def _every_setting(points: Sequence[Point]) -> Iterator[str]:
    yield (
        "| search | setting | images | accuracy | 95 % interval | evaluations per image | drop vs "
        "`paper` | p |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    paper = find(points, "paper")
    for point in sorted(points, key=_cost):
        row = point.row(paper)
        yield (
            f"| {point.search} | {point.setting} | {row['n']} | {point.accuracy:.1%} | "
            f"{row['ci_low']:.1%} to {row['ci_high']:.1%} | "
            f"{_cost(point):,.1f} | {_drop_cells(point, paper)} |"
        )


def _earlier(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Rows of speed.csv for benchmarks without stored answers."""
    if not rows:
        return
    yield from ("## Measured earlier", "")
    yield (
        "Rows of speed.csv whose answers for each image are not stored (`speed_answers/`). Their "
        "accuracies are over different images, so drops cannot be computed; p is against `paper` "
        "on the images of both."
    )
    yield ""
    yield (
        "| benchmark | search | setting | images | accuracy | 95 % interval | evaluations per "
        "image | p |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['benchmark']} | {row['search']} | {row['setting']} | {row['n']} | "
            f"{row['accuracy']:.1%} | {row['ci_low']:.1%} to {row['ci_high']:.1%} | "
            f"{row['evaluations_per_image']:,.1f} | {row['mcnemar_p_vs_paper']:.3f} |"
        )
    yield ""


def _drop_cells(point: Point, other: Point) -> str:
    """Two cells: the accuracy drop with its number of images, and p."""
    drop, p = point.drop_from(other), point.p_against(other)
    return f"{drop:+.1%} ({point.common(other)}) | {p:.3f}"


def _cost(point: Point) -> float:
    return point.evaluations_per_image
