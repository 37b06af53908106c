"""Measured points of the search benchmark: one search with one setting on one benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffcls.metrics.statistics import mcnemar_exact, wilson_interval

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


@dataclass(frozen=True)
class Point:
    """One search with one setting on one benchmark.

    Args:
        benchmark: name of the data set.
        search: value of ``--search``.
        setting: its options, as ``name=value``; ``default`` if none was given.
        predicted, labels: image id -> class index.
        evaluations_per_image: mean over the images.
        images_per_second: throughput on one thread; None for a replayed search.
        screened: image id -> the shortlist of a screened search: the first classes of the ranking,
            as many as the screen passes to its race; empty without a screen.
        clear: share of the images with a clear error: the full table of as many draws favours
            another class by more than two of its standard errors; None if it was not computed.
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
    def correct(self) -> dict[str, bool]:
        """Image id -> whether the prediction is the label."""
        return {image: k == self.labels[image] for image, k in self.predicted.items()}

    @property
    def accuracy(self) -> float:
        """Share of correct predictions over all its images."""
        return sum(self.correct.values()) / len(self.correct)

    def row(self, paper: Point) -> dict[str, Any]:
        """The row of speed.csv."""
        correct = list(self.correct.values())
        low, high = wilson_interval(sum(correct), len(correct))
        rate = self.images_per_second
        return {
            "benchmark": self.benchmark,
            "search": self.search,
            "setting": self.setting,
            "n": len(correct),
            "accuracy": round(self.accuracy, 6),
            "ci_low": round(low, 6),
            "ci_high": round(high, 6),
            "evaluations_per_image": round(self.evaluations_per_image, 3),
            "images_per_second": None if rate is None else round(rate, 3),
            "mcnemar_p_vs_paper": round(self.p_against(paper), 6),
        }

    def p_against(self, other: Point) -> float:
        """McNemar's exact p on the images that both scored."""
        own, others = self.correct, other.correct
        common = sorted(own.keys() & others.keys())
        return mcnemar_exact([own[i] for i in common], [others[i] for i in common])

    def drop_from(self, other: Point) -> float:
        """Accuracy of the other point minus this one's, on the images that both scored."""
        own, others = self.correct, other.correct
        common = own.keys() & others.keys()
        return sum(others[i] - own[i] for i in common) / len(common)

    def common(self, other: Point) -> int:
        """Number of images that both scored."""
        return len(self.predicted.keys() & other.predicted.keys())

    def recall(self, other: Point) -> float:
        """Share of the images on which the other point's prediction is in the shortlist."""
        common = self.screened.keys() & other.predicted.keys()
        return sum(other.predicted[i] in self.screened[i] for i in common) / len(common)

    def disagreement(self, other: Point) -> float:
        """Share of the images that both scored on which their predictions differ."""
        common = self.predicted.keys() & other.predicted.keys()
        return sum(self.predicted[i] != other.predicted[i] for i in common) / len(common)


def find(points: Sequence[Point], search: str, setting: str | None = None) -> Point:
    """The first point of a search, or of a search with a setting."""
    return next(p for p in points if p.search == search and setting in (None, p.setting))


def pooled(points: Sequence[Point], name: str) -> Point:
    """One point over the images of several benchmarks; its cost is the mean over all images.

    Args:
        points: one search with one setting, one point per benchmark.
        name: name of the pooled benchmark.
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
