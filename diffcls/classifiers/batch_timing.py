"""Timing of a full forward pass, and the batch size that suits a device."""

from __future__ import annotations

import time

import torch

from diffcls.models.control import blank
from diffcls.scoring.batch_size import in_batches, largest_worthwhile
from diffcls.scoring.scorer import Scorer


def seconds_per_batch(scorer: Scorer) -> float:
    """Time of one full forward pass of the denoiser in seconds, measured now.

    The batch size is halved until memory suffices.

    Raises:
        ModelError: if memory does not suffice for one row.
    """
    seconds: list[float] = []
    in_batches(scorer, 1, lambda _: seconds.append(_seconds(scorer)))
    return seconds[0]


def _seconds(scorer: Scorer) -> float:
    rows = range(scorer.batch_size)
    x0 = torch.zeros(scorer.batch_size, *scorer.denoiser.sample_shape)
    prompts = torch.tensor([row % scorer.cond.count for row in rows])
    draws = [row % len(scorer.plan) for row in rows]
    control = blank(scorer.denoiser, scorer.batch_size)
    began = 0.0
    for _ in range(2):  # the first one warms up
        began = time.perf_counter()
        scorer.errors(x0, prompts, draws, control).cpu()  # waits for the accelerator
    return time.perf_counter() - began


def choose_batch_size(scorer: Scorer) -> None:
    """Set the batch size to the one with the most evaluations per second on this device."""

    def seconds(rows: int) -> float:
        scorer.batch_size = rows
        return _seconds(scorer)

    scorer.batch_size = largest_worthwhile(seconds)
