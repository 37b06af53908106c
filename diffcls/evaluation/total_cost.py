"""Total cost of the runs of one command, announced before the first one starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffcls.evaluation.cost import Cost, advice, describe_time
from diffcls.evaluation.time_budget import read_time


@dataclass
class TotalCost:
    """Sum of the costs of several runs; each is an upper bound.

    Args:
        runs: number of runs that are to do.
        images: their images.
        evaluations: forward passes of a denoiser at most, those of fits included.
        seconds: time at most, from one timed batch of each data set and model.
        unknown: runs whose cost is not known, as their model or prompts have failed.
    """

    runs: int = 0
    images: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    unknown: int = 0

    def add(self, cost: Cost | None) -> None:
        """Add the cost of one run; None: it is not known."""
        if cost is None:
            self.unknown += 1
            return
        self.runs += 1
        self.images += cost.images
        self.evaluations += cost.total_evaluations
        self.seconds += cost.total_seconds

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]]) -> TotalCost:
        """The total of the rows of a dry run."""
        total = cls()
        for row in rows:
            total.runs += 1
            total.images += row["images"]
            total.evaluations += row["images"] * row["evaluations_per_image_at_most"]
            total.evaluations += row.get("fit_evaluations", 0)
            total.seconds += row["seconds_at_most"] + row.get("fit_seconds", 0.0)
        return total

    def text(self, budget: str | None, runs: int, search: str | None) -> str:
        """The total in one line.

        Args:
            budget: the share of a time budget that each run has, or None.
            runs: number of all runs of the command, finished ones included.
            search: name of their search; None: the default.
        """
        seconds, counts = self.seconds, f"{runs} runs"
        left = self.runs + self.unknown
        if left < runs:
            counts += f", {runs - left} finished before"
        if budget is not None:
            seconds = min(seconds, read_time(budget) * left)
        text = (
            f"{counts}; {self.images:,} images, {self.evaluations:,} evaluations at most: "
            f"{describe_time(seconds)} at most in total"
        )
        if self.unknown:
            text += f", without {self.unknown} whose cost is not known"
        return f"{text}; {long}" if (long := advice(seconds, search)) and budget is None else text
