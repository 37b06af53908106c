"""results/speed.csv, SPEED.md and speed.png: what each search costs, and what it loses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffcls.metrics.statistics import mcnemar_exact, wilson_interval
from diffcls.support.files import write_text

COLUMNS = (
    "benchmark",
    "search",
    "setting",
    "n",
    "accuracy",
    "ci_low",
    "ci_high",
    "evaluations_per_image",
    "images_per_second",
    "mcnemar_p_vs_paper",
)
DEFAULT_DRAWS = 40
"""Of racing, where nobody says how many."""
POOLED = ("digits", "fashion_mnist")
"""Benchmarks that are looked at as one: their classes are told apart with ease."""
KNEE = 0.01
"""Accuracy that may be lost at the knee."""


@dataclass(frozen=True)
class Point:
    """One search with one setting on one benchmark.

    Args:
        benchmark: name of the data set.
        search, setting: as the command spells them; ``default`` where nothing was given.
        predicted, labels: by image id.
        evaluations_per_image: mean.
        images_per_second: of a real run on one thread; None of one that was replayed.
        screened: image id -> the first classes of the ranking, as many as a screen leaves to its
            race; empty without a screen.
        clear: share of the images on which the full table of as many draws puts another class ahead
            by more than two of its standard errors; None where it was not looked at.
    """

    benchmark: str
    search: str
    setting: str
    predicted: Mapping[str, int]
    labels: Mapping[str, int]
    evaluations_per_image: float
    images_per_second: float | None = None
    screened: Mapping[str, Sequence[int]] = field(default_factory=dict)
    clear: float | None = None

    @property
    def right(self) -> dict[str, bool]:
        """Image id -> whether the prediction is the label."""
        return {image: k == self.labels[image] for image, k in self.predicted.items()}

    @property
    def accuracy(self) -> float:
        """Of all its images."""
        return sum(self.right.values()) / len(self.right)

    def row(self, paper: Point) -> dict[str, Any]:
        """The row of speed.csv."""
        right = list(self.right.values())
        low, high = wilson_interval(sum(right), len(right))
        rate = self.images_per_second
        return {
            "benchmark": self.benchmark,
            "search": self.search,
            "setting": self.setting,
            "n": len(right),
            "accuracy": round(self.accuracy, 6),
            "ci_low": round(low, 6),
            "ci_high": round(high, 6),
            "evaluations_per_image": round(self.evaluations_per_image, 3),
            "images_per_second": None if rate is None else round(rate, 3),
            "mcnemar_p_vs_paper": round(self.p_against(paper), 6),
        }

    def p_against(self, other: Point) -> float:
        """McNemar's exact p on the images that both scored."""
        mine, theirs = self.right, other.right
        both = sorted(mine.keys() & theirs.keys())
        return mcnemar_exact([mine[i] for i in both], [theirs[i] for i in both])

    def lost_to(self, other: Point) -> float:
        """How much more often the other one is right, on the images that both scored."""
        mine, theirs = self.right, other.right
        both = mine.keys() & theirs.keys()
        return sum(theirs[i] - mine[i] for i in both) / len(both)

    def common(self, other: Point) -> int:
        """Number of images that both scored."""
        return len(self.predicted.keys() & other.predicted.keys())

    def recall(self, other: Point) -> float:
        """Share of the images on which the other one's prediction is among the classes screened."""
        both = self.screened.keys() & other.predicted.keys()
        return sum(other.predicted[i] in self.screened[i] for i in both) / len(both)

    def disagreement(self, other: Point) -> float:
        """Share of the images that both scored on which their predictions differ."""
        both = self.predicted.keys() & other.predicted.keys()
        return sum(self.predicted[i] != other.predicted[i] for i in both) / len(both)


def write(points: Sequence[Point], output: Path, where: str = "") -> None:
    """The three files; rows of other benchmarks in speed.csv stay, and stand apart on the page.

    Args:
        points: of all benchmarks whose answers are known.
        output: their folder.
        where: what they were measured on, in words.
    """
    import pandas as pd

    of = {name: [p for p in points if p.benchmark == name] for name in _names(points)}
    rows = [p.row(find(mine, "paper")) for mine in of.values() for p in mine]
    output.mkdir(parents=True, exist_ok=True)
    frame, table = pd.DataFrame(rows, columns=list(COLUMNS)), output / "speed.csv"
    earlier = pd.read_csv(table) if table.exists() else frame.iloc[:0]
    earlier = earlier[~earlier["benchmark"].isin(of)]
    write_text(table, pd.concat([frame, earlier] if len(earlier) else [frame]).to_csv(index=False))
    page = [*_page(of, f" on {where}" if where else ""), *_earlier(earlier.to_dict("records"))]
    write_text(output / "SPEED.md", "\n".join(page))
    draw(of, output / "speed.png")


def _names(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.benchmark for point in points))


def find(points: Sequence[Point], search: str, setting: str | None = None) -> Point:
    """The first point of a search, or of a search with a setting."""
    return next(p for p in points if p.search == search and setting in (None, p.setting))


def pooled(points: Sequence[Point], name: str) -> Point:
    """The images of several benchmarks as those of one; its cost is the mean over all of them.

    Args:
        points: of one search with one setting, a benchmark each.
        name: of the whole.
    """
    images = sum(len(p.predicted) for p in points)
    evaluations = sum(p.evaluations_per_image * len(p.predicted) for p in points)
    rates = [p.images_per_second for p in points]
    seconds = sum(len(p.predicted) / r for p, r in zip(points, rates, strict=True) if r)
    return Point(
        name,
        points[0].search,
        points[0].setting,
        predicted={f"{p.benchmark}/{i}": k for p in points for i, k in p.predicted.items()},
        labels={f"{p.benchmark}/{i}": k for p in points for i, k in p.labels.items()},
        evaluations_per_image=evaluations / images,
        images_per_second=images / seconds if all(rates) else None,
    )


def _page(of: Mapping[str, Sequence[Point]], where: str) -> Iterator[str]:
    yield from ("# What each search costs, and what it loses", "")
    yield (
        f"Written by `python -m benchmarks.speed.searches`{where}. Every class was scored on every "
        "draw "
        "once, for all images of a table; searches that need only these errors were replayed from "
        "them, all others were run. An evaluation is one forward pass of the network for one "
        "image, a backward pass is two. `paper` is the published procedure, on even draws and on "
        "a part of the same images; p is McNemar's exact test against it there, and “loses” the "
        "difference in accuracy there (less than 0: it wins), the number of these images in "
        "brackets; the full table is `exhaustive` on all draws. Intervals are Wilson's at 95 %. "
        "Images a second are of encoding and scoring on one thread, two runs side by side; "
        "`OVERHEAD.md` has the whole command. Settings were chosen on validation images, never on "
        "these."
    )
    yield from ("", "![accuracy against evaluations](speed.png)", "", "## At the default settings")
    yield ""
    yield (
        "| benchmark | search | images | accuracy | 95 % interval | evaluations | fewer than "
        "`paper` | loses | p | loses to the full table | p | images/s |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for mine in of.values():
        yield from _lines(mine)
    if all(name in of for name in POOLED):
        runs = zip(*(_defaults(of[name]) for name in POOLED), strict=True)
        yield from _lines([pooled(same, " + ".join(POOLED)) for same in runs])
    yield from ("", "## The knee", "")
    yield (
        "The least evaluations at which a search, whatever its setting, loses at most one point to "
        "`paper` on the images of both. These were looked up on the same images: they say where "
        "the curve bends, not what a setting chosen beforehand would reach."
    )
    yield ""
    yield from _knees(of)
    yield from ("", "## What the screens let through", "")
    yield (
        "Share of the images on which the class that the full table finds, and the one that is "
        "right, are among the first of the search's ranking, as many as it leaves to its race. "
        "Classes that were screened out are ranked by how far behind they seemed, so the share of "
        "those that raced is this or less. And how often the whole search differs from the full "
        "table."
    )
    yield ""
    yield from _screens(of)
    yield from ("", "## Confidence asked for, and disagreement found", "")
    yield (
        "Racing of N draws against the full table of the same N draws. What is asked covers images "
        "where the full table itself can tell: where it puts a class ahead by more than two of its "
        "own standard errors (in brackets). All others are ties also to the full table."
    )
    yield ""
    yield from _confidence(of)
    for name, mine in of.items():
        yield from ("", f"## {name}: every setting", "")
        yield (
            "| search | setting | images | accuracy | 95 % interval | evaluations | loses to "
            "`paper` | p |"
        )
        yield "|---|---|---|---|---|---|---|---|"
        for point in sorted(mine, key=lambda p: p.evaluations_per_image):
            paper = find(mine, "paper")
            row = point.row(paper)
            yield (
                f"| {point.search} | {point.setting} | {row['n']} | {point.accuracy:.1%} | "
                f"{row['ci_low']:.1%} to {row['ci_high']:.1%} | "
                f"{point.evaluations_per_image:,.1f} | {_against(point, paper)} |"
            )
    yield ""


def _earlier(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What speed.csv says of benchmarks whose answers, image by image, are not kept."""
    if not rows:
        return
    yield from ("## Measured earlier", "")
    yield (
        "Rows of speed.csv from before the answers to each image were kept (`speed_answers/`): "
        "their accuracies are not of the same images everywhere, so what they lose is not said "
        "here; p is against `paper` on the images of both."
    )
    yield ""
    yield "| benchmark | search | setting | images | accuracy | 95 % interval | evaluations | p |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['benchmark']} | {row['search']} | {row['setting']} | {row['n']} | "
            f"{row['accuracy']:.1%} | {row['ci_low']:.1%} to {row['ci_high']:.1%} | "
            f"{row['evaluations_per_image']:,.1f} | {row['mcnemar_p_vs_paper']:.3f} |"
        )
    yield ""


def _defaults(points: Sequence[Point]) -> list[Point]:
    """What was run, at the default settings."""
    return [p for p in points if p.images_per_second and "candidates" not in p.setting]


def _lines(points: Sequence[Point]) -> Iterator[str]:
    paper, full = find(points, "paper"), find(points, "exhaustive")
    for point in _defaults(points):
        yield _line(point, paper, full)


def _knees(of: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    yield "| benchmark | search | setting | evaluations | loses | p |"
    yield "|---|---|---|---|---|---|"
    for name, mine in of.items():
        paper = find(mine, "paper")
        for search in dict.fromkeys(p.search for p in mine if p is not paper):
            near = [p for p in mine if p.search == search and p.lost_to(paper) <= KNEE]
            if not near:
                yield f"| {name} | {search} | none | | | |"
                continue
            point = min(near, key=_cost)
            yield (
                f"| {name} | {search} | {point.setting} | {_cost(point):,.1f} | "
                f"{_against(point, paper)} |"
            )


def _line(point: Point, paper: Point, full: Point) -> str:
    row = point.row(paper)
    times = paper.evaluations_per_image / point.evaluations_per_image
    return (
        f"| {point.benchmark} | {point.search} | {row['n']} | {point.accuracy:.1%} | "
        f"{row['ci_low']:.1%} to {row['ci_high']:.1%} | {point.evaluations_per_image:,.1f} | "
        f"{times:.0f}× | {_against(point, paper)} | {_against(point, full)} | "
        f"{row['images_per_second']:.2f} |"
    )


def _against(point: Point, other: Point) -> str:
    """Two cells: what it loses, of how many images, and p."""
    lost, p = point.lost_to(other), point.p_against(other)
    return f"{lost:+.1%} ({point.common(other)}) | {p:.3f}"


def _screens(of: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    yield (
        "| benchmark | search | setting | finds the full table's | finds the right one | differs |"
    )
    yield "|---|---|---|---|---|---|"
    for name, mine in of.items():
        full = find(mine, "exhaustive")
        for point in (p for p in mine if p.screened):
            right = sum(point.labels[i] in kept for i, kept in point.screened.items())
            yield (
                f"| {name} | {point.search} | {point.setting} | {point.recall(full):.1%} | "
                f"{right / len(point.screened):.1%} | {point.disagreement(full):.1%} |"
            )


def _confidence(of: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    every = [point for mine in of.values() for point in mine if point.search == "racing"]
    asked = [p.setting.partition(" ")[0] for p in every if p.setting.startswith("confidence=")]
    yield "| racing | " + " | ".join(of) + " |"
    yield "|---|" + "---|" * len(of)
    for confidence in dict.fromkeys(asked):
        for few in (True, False):
            cells = []
            for mine in of.values():
                draws = f"draws={DEFAULT_DRAWS}" if few else find(mine, "exhaustive").setting
                point = find(mine, "racing", f"{confidence} {draws}")
                differs = point.disagreement(find(mine, "exhaustive", draws))
                clear = "" if point.clear is None else f" ({point.clear:.1%})"
                cells.append(f"{differs:.1%}{clear} at {_cost(point):,.0f} evaluations")
            what = f"N = {DEFAULT_DRAWS}" if few else "N = all draws"
            yield f"| {confidence}, {what} | " + " | ".join(cells) + " |"


def draw(of: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Accuracy against evaluations on the images that `paper` scored, a panel a benchmark.

    The band is the 95 % interval of `paper` itself.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(of), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(of), squeeze=False)[0]
    for axis, (name, mine) in zip(axes, of.items(), strict=True):
        paper = find(mine, "paper")
        low, high = wilson_interval(sum(paper.right.values()), len(paper.right))
        axis.axhspan(100 * low, 100 * high, color="grey", alpha=0.15)
        for number, search in enumerate(dict.fromkeys(p.search for p in mine)):
            line = sorted((p for p in mine if p.search == search), key=_cost)
            axis.plot(
                [_cost(p) for p in line],
                [100 * (paper.accuracy - p.lost_to(paper)) for p in line],
                marker="osD^vP*"[number % 7],
                color=f"C{number}",
                label=search,
                markersize=4,
                linewidth=1,
                linestyle="-" if search in ("exhaustive", "halving") else "none",
            )
        axis.set_xscale("log")
        axis.set_title(f"{name}, {len(paper.right)} images")
        axis.set_xlabel("evaluations an image")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy, %")
    axes[-1].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _cost(point: Point) -> float:
    return point.evaluations_per_image
