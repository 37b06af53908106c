"""Rows of published_speed.csv: ratios of seconds per image, and agreement of the answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.speed.published_sides import Side
from benchmarks.speed.published_speed_report import EQUAL_WORK


@dataclass(frozen=True)
class Comparison:
    """A search of diffcls that is timed beside the published script.

    Args:
        dataset: data set, with its default model.
        search: value of ``--search``; `EQUAL_WORK` has the script's stages and batch size.
        target: least ratio of the seconds per image.
        images_per_turn: images of diffcls per image of the published script.
    """

    dataset: str
    search: str
    target: float
    images_per_turn: int = 1


def row_of(
    comparison: Comparison, published: Side, ours: Side, labels: dict[str, int]
) -> dict[str, Any]:
    """The row of one comparison.

    Args:
        comparison: its data set, search and target.
        published, ours: both sides, with one lap per turn.
        labels: image id -> class.
    """
    common = [name for name in published.answers if name in ours.answers]
    agree = sum(published.answers[k].prediction == ours.answers[k].prediction for k in common)
    differences = [difference(published.answers[k].errors, ours.answers[k].errors) for k in common]
    correct = [answer.prediction == labels[k] for k, answer in ours.answers.items()]
    turns = len(published.laps)
    seconds = np.array([[lap.seconds for lap in side.laps] for side in (published, ours)])
    cpu = np.array([[lap.cpu_seconds for lap in side.laps] for side in (published, ours)])
    per_turn = np.array([[published.images_per_turn], [ours.images_per_turn]])
    times, low, high = ratio(seconds / per_turn)
    return {
        "dataset": comparison.dataset,
        "search": comparison.search,
        "published_images": len(published.answers),
        "images": len(ours.answers),
        "published_evaluations_per_image": _mean_evaluations(published),
        "evaluations_per_image": _mean_evaluations(ours),
        "published_seconds_per_image": float(seconds[0].sum() / (turns * per_turn[0, 0])),
        "seconds_per_image": float(seconds[1].sum() / (turns * per_turn[1, 0])),
        "times": times,
        "ci_low": low,
        "ci_high": high,
        "cpu_times": ratio(cpu / per_turn)[0],
        "core_share": float(cpu.sum() / seconds.sum()),
        "target": comparison.target,
        "same_predictions": agree,
        "compared": len(common),
        "largest_difference": max(differences) if comparison.search == EQUAL_WORK else None,
        "accuracy": sum(correct) / len(correct),
    }


def ratio(seconds: Any, confidence: float = 0.95) -> tuple[float, float, float]:
    """The published seconds per image over ours, with an interval by bootstrap over the turns.

    Args:
        seconds: (2, turns) per image, of the published script and of ours.
        confidence: of the interval.
    """
    from diffcls.metrics.statistics import bootstrap_interval

    def of_turns(turns: Any, axis: int = -1) -> Any:
        published, ours = (side[np.asarray(turns, dtype=int)].sum(axis=axis) for side in seconds)
        return published / ours

    every = np.arange(seconds.shape[1], dtype=float)
    low, high = bootstrap_interval(every, 0, of_turns, confidence=confidence)
    return float(of_turns(every)), low, high


def difference(published: dict[int, Any], ours: dict[int, Any]) -> float:
    """The largest difference of two error tables, absolute up to 1 and relative above.

    A class that one side dropped earlier is compared on the draws of both. It is infinite if an
    error is not finite, or if there is nothing to compare.
    """
    result = -1.0
    for k, theirs in published.items():
        count = min(len(theirs), len(ours.get(k, ())))
        if count:
            a, b = np.asarray(theirs[:count], float), np.asarray(ours[k][:count], float)
            largest = float((np.abs(a - b) / np.maximum(1.0, np.abs(a))).max())
            result = max(result, largest if math.isfinite(largest) else math.inf)
    return math.inf if result < 0 else result


def _mean_evaluations(side: Side) -> float:
    return float(np.mean([answer.evaluations for answer in side.answers.values()]))
