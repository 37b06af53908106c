"""A measured row of the leaderboard with all that a finished run on a named data set has."""

from __future__ import annotations

from typing import Any

from diffcls.runs.row import COLUMNS

VALUES: dict[str, Any] = {
    "fingerprint": "0123456789abcdef",
    "dataset": "pets",
    "split": "test",
    "n_classes": 37,
    "method": "diffusion",
    "model": "sd2-base",
    "revision": "1e128c8",
    "search": "racing",
    "setting": "default",
    "supervision": "zero-shot",
    "source": "measured",
    "n_asked": 400,
    "n_scored": 400,
    "accuracy": 0.8725,
    "ci_low": 0.836,
    "ci_high": 0.9016,
    "top5": 0.985,
    "mean_per_class": 0.8695,
    "evaluations_per_image": 410.5,
    "seconds_per_image": 9.25,
    "seed": 0,
    "status": "complete",
}


def measured_row(**changes: Any) -> dict[str, Any]:
    """The row with some values changed."""
    return dict.fromkeys(COLUMNS) | VALUES | changes
