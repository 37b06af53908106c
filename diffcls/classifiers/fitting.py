"""Fitting: what a method has to fit before its first image, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcls.support.progress import describe_time

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.models.denoiser import Denoiser
    from diffcls.training.supervised import Supervised

TIMED_ROWS = 64
"""Rows of the forward pass that is timed."""


@dataclass(frozen=True)
class FitCost:
    """Cost of a fit.

    Args:
        evaluations: forward passes of the denoiser.
        training_images: images that a classifier is trained on at most, counting repeats; early
            stopping usually ends its training sooner.
        seconds: time, extrapolated from one timed batch of each kind.
        backbone_images: images whose features a backbone computes.
    """

    evaluations: int
    training_images: int
    seconds: float
    backbone_images: int = 0

    def __str__(self) -> str:
        parts = [f"{self.evaluations:,} evaluations"] if self.evaluations else []
        if self.backbone_images:
            parts.append(f"features of {self.backbone_images:,} images")
        if self.training_images:
            parts.append(f"training on up to {self.training_images:,} images")
        # early stopping usually ends a training sooner
        bound = "up to" if self.training_images else "about"
        return f"{' and '.join(parts)}: {bound} {describe_time(self.seconds)}"


@dataclass(frozen=True)
class Fitting:
    """A fit that a method needs, see `diffcls.classifiers.base.Built`.

    Args:
        is_done: whether its result is in the cache.
        cost: its cost, from batches that are timed now.
    """

    is_done: Callable[[], bool]
    cost: Callable[[], FitCost]


def seconds_of(run: Callable[[], Tensor]) -> float:
    """Time of one call in seconds, after another that warms up; waits for an accelerator."""
    began = 0.0
    for _ in range(2):
        began = time.perf_counter()
        run().cpu()
    return time.perf_counter() - began


def seconds_per_evaluation(denoiser: Denoiser) -> float:
    """Time per row of a forward pass of the denoiser without guidance."""
    import torch

    cond = denoiser.encode_prompts([""])
    rows = torch.zeros(TIMED_ROWS, dtype=torch.long, device=denoiser.device)
    x_t = torch.zeros(TIMED_ROWS, *denoiser.sample_shape, device=denoiser.device)
    with torch.inference_mode():
        seconds = seconds_of(
            lambda: denoiser.predict(x_t.to(denoiser.dtype), rows, cond.rows(rows))
        )
    return seconds / TIMED_ROWS


def evaluations_cost(denoiser: Denoiser, evaluations: int) -> FitCost:
    """The cost of forward passes of the denoiser alone."""
    return FitCost(evaluations, 0, evaluations * seconds_per_evaluation(denoiser))


def training_seconds(recipe: Supervised, side: int, classes: int) -> float:
    """Time of the longest training of the small classifier, see `diffcls.training.supervised`."""
    import torch
    import torch.nn.functional as F

    from diffcls.models.resnet import SmallResNet

    with torch.random.fork_rng(devices=[]):  # its weights come from the global generator
        model = SmallResNet(classes)
    images = torch.zeros(recipe.batch, 3, side, side)
    labels = torch.zeros(recipe.batch, dtype=torch.long)

    def step() -> Tensor:
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        return loss.detach()

    return seconds_of(step) * -(-recipe.images // recipe.batch)
