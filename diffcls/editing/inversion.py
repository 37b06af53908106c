"""Inversion of an image: the states of its own path to noise, which an edit starts from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.generation.guidance import guided
from diffcls.generation.samplers import path_of
from diffcls.generation.solvers import Estimates
from diffcls.models.denoiser import Conditioning, Denoiser


@dataclass(frozen=True)
class Inversion:
    """The path of an image to noise.

    Args:
        path: (S,) schedule indices, falling to the least noise.
        states: (S, C, h, w) x at each of them.
    """

    path: NDArray[np.int64]
    states: Tensor


def invert(denoiser: Denoiser, x0: Tensor, cond: Conditioning, steps: int) -> Inversion:
    """DDIM inversion of an image under its prompt, without guidance (Song et al. 2021, eq. 13).

        x_s = α_s·x0(x_t) + σ_s·ε(x_t),    s > t

    Args:
        denoiser: the model.
        x0: (1, C, h, w) the encoded image.
        cond: one row, its prompt.
        steps: S, levels of the path; 2 or more.
    """
    schedule = denoiser.schedule
    predict = guided(denoiser, cond, cond, 1.0)
    path = path_of(schedule, steps)
    x = float(schedule.alpha[0]) * x0.to(denoiser.device)
    states = [x]
    for t, s in pairwise(path[::-1].tolist()):
        x = step_to(schedule, predict(x, t), s)
        states.append(x)
    return Inversion(path, torch.cat(states[::-1]))


def step_to(schedule: NoiseSchedule, estimates: Estimates, index: int) -> Tensor:
    """α·x0 + σ·ε of the estimates, at another level of the schedule."""
    alpha, sigma = float(schedule.alpha[index]), float(schedule.sigma[index])
    return alpha * estimates.x0 + sigma * estimates.noise
