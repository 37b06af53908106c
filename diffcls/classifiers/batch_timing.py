"""Timing of a full forward pass, and the batch size that suits a device."""

from __future__ import annotations

import math
import time

import torch

from diffcls.models.control import blank
from diffcls.scoring.batch_size import in_batches, largest_worthwhile
from diffcls.scoring.scorer import Scorer

ENOUGH_SECONDS = 2.0
"""A pass that takes longer is extrapolated, on a CPU, from fewer rows."""


def seconds_per_batch(scorer: Scorer) -> float:
    """Time of one full forward pass of the denoiser in seconds, measured now.

    The batch size is halved until memory suffices. On a CPU the time is that of a row, or of a few,
    times the number of rows, where a full pass takes long: of Stable Diffusion that is minutes, and
    a row in a large batch takes no longer than one in a small batch.

    Raises:
        ModelError: if memory does not suffice for one row.
    """
    seconds: list[float] = []
    in_batches(scorer, 1, lambda _: seconds.append(_least_effort(scorer)))
    return seconds[0]


def _least_effort(scorer: Scorer) -> float:
    size = scorer.batch_size
    if scorer.denoiser.device.type == "cpu":
        one = _pass(scorer, 1)
        rows = math.ceil(ENOUGH_SECONDS / one) if one else size
        if rows < size:
            return size / rows * (one if rows == 1 else _pass(scorer, rows))
    return _seconds(scorer)


def choose_batch_size(scorer: Scorer) -> None:
    """Set the batch size to the one with the most evaluations per second on this device."""

    def seconds(rows: int) -> float:
        scorer.batch_size = rows
        return _seconds(scorer)

    scorer.batch_size = largest_worthwhile(seconds)


def _seconds(scorer: Scorer) -> float:
    """Seconds of a full pass, after one that warms up."""
    _pass(scorer, scorer.batch_size)
    return _pass(scorer, scorer.batch_size)


def _pass(scorer: Scorer, rows: int) -> float:
    """Seconds of a pass of so many rows; the batch size is as before in the end."""
    size, scorer.batch_size = scorer.batch_size, rows
    try:
        x0 = torch.zeros(rows, *scorer.denoiser.sample_shape)
        prompts = torch.tensor([row % scorer.cond.count for row in range(rows)])
        draws = [row % len(scorer.plan) for row in range(rows)]
        control = blank(scorer.denoiser, rows)
        began = time.perf_counter()
        scorer.errors(x0, prompts, draws, control).cpu()  # waits for the accelerator
        return time.perf_counter() - began
    finally:
        scorer.batch_size = size
