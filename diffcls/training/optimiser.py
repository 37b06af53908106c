"""Learning-rate schedule and exponential moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from diffcls.training.recipes import Optimisation


class Ema:
    """Exponential moving average of the weights (Polyak averaging).

    The decay is warmed up, so that the average forgets the initial weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = [p.detach().clone() for p in module.parameters()]
        self._parameters = list(module.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """shadow ← d·shadow + (1 − d)·weights, d = min(decay, (1 + step)/(10 + step))."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, self._parameters, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average; calling it twice changes nothing."""
        for average, parameter in zip(self.shadow, self._parameters, strict=True):
            weights = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(weights)


def learning_rate(step: int, steps: int, optimisation: Optimisation) -> float:
    """Learning rate of a step: linear warm-up, then constant or half a cosine down to zero.

    Args:
        step: index of the step, from 0.
        steps: number of steps of the whole phase.
        optimisation: peak, warm-up and decay.
    """
    peak, warm = optimisation.learning_rate, max(1, round(optimisation.warmup * steps))
    if step < warm:
        return peak * (step + 1) / warm
    if optimisation.decay == "constant":
        return peak
    progress = (step - warm) / max(1, steps - warm)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
