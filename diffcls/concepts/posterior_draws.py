"""Draws of the classifier's own errors, with gradients: its timestep allocation and ε error.

    ē_k(x) = mean over draws of mean((ε − ε̂(x_t, t, c_k))²)

(Li et al. 2023, eq. 6). All classes are compared on the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffcls.diffusion.timestep_allocation import allocate
from diffcls.models.denoiser import Conditioning
from diffcls.training.losses import noised, objective
from diffcls.training.noise_levels import LevelBatch, times


@dataclass(frozen=True)
class Draws:
    """Draws of a batch: I images, each with m (timestep, noise) pairs.

    Args:
        denoiser: the model.
        x0, noise, x_t: (I·m, C, h, w) on the device.
        levels: noise levels (I·m,).
    """

    denoiser: Any
    x0: Tensor
    noise: Tensor
    x_t: Tensor
    levels: LevelBatch

    def errors(self, cond: Conditioning) -> Tensor:
        """(I·m,) ε error of each row under a prompt of its own."""
        index = torch.as_tensor(self.levels.index).to(self.denoiser.device)
        out = self.denoiser.predict(self.x_t.to(self.denoiser.dtype), index, cond)
        row = self.denoiser.parameterization
        return objective(out.float(), self.x0, self.noise, self.levels, row, "epsilon")


def drawn(denoiser: Any, x0: Tensor, images: int, draws: int, rng: torch.Generator) -> Draws:
    """Draws of random images.

    Args:
        denoiser: the model.
        x0: (N, C, h, w) encoded images.
        images: I, number of images that are chosen.
        draws: m, draws of each.
        rng: of all random choices.
    """
    image = torch.randint(len(x0), (images,), generator=rng).repeat_interleave(draws)
    count = len(image)
    noise = torch.randn(count, *x0.shape[1:], generator=rng).to(denoiser.device)
    schedule = denoiser.schedule
    even = (times(count, rng) * len(schedule)).long().clamp(max=len(schedule) - 1)
    # stratified over the batch: a permutation gives each image times from all of it
    even = even[torch.randperm(count, generator=rng)]
    index = allocate(even.numpy(), denoiser.card.allocation, schedule)
    alpha, sigma = (
        torch.tensor(v[index], dtype=torch.float32) for v in (schedule.alpha, schedule.sigma)
    )
    place = torch.from_numpy(np.asarray(index))
    levels = LevelBatch(alpha, sigma, place.float(), place)
    chosen = x0[image].to(denoiser.device)
    return Draws(denoiser, chosen, noise, noised(chosen, noise, levels), levels)


def posterior_scale(denoiser: Any) -> float:
    """D/T: factor from a difference of errors to one of log-posteriors."""
    return float(np.prod(denoiser.sample_shape)) / float(denoiser.card.temperature)
