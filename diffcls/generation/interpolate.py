"""Interpolation between two images through their noises, by DDIM inversion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.generation.samplers import path_of
from diffcls.generation.solvers import Predict
from diffcls.models.denoiser import Denoiser

if TYPE_CHECKING:
    from torch import Tensor


def interpolate(
    denoiser: Denoiser, pixels: Sequence[NDArray[np.float32]], count: int, steps: int
) -> Tensor:
    """Images on the way from one image to another, without prompt or guidance.

    Both images are inverted to noise, the noises interpolated along the sphere (see `slerp`), and
    each point is followed back to an image.

    Args:
        denoiser: the model.
        pixels: two images (3, H, W) in [−1, 1].
        count: images to return, both ends included; 2 or more.
        steps: number of steps of the path in either direction, 2 or more.

    Returns:
        (count, 3, H, W) in [−1, 1], on the CPU.
    """
    import torch

    from diffcls.generation.guidance import guided

    with torch.inference_mode():
        empty = denoiser.encode_prompts([""])
        predict = guided(denoiser, empty, empty, 0.0)
        x0 = denoiser.encode_images(torch.stack([torch.from_numpy(one) for one in pixels]))
        schedule = denoiser.schedule
        falling = path_of(schedule, steps)
        start = float(schedule.alpha[0]) * x0
        noises = follow(schedule, predict, start, falling[::-1])
        points = [slerp(noises[:1], noises[1:], i / (count - 1)) for i in range(count)]
        x_t = follow(schedule, predict, torch.cat(points), falling)
        return denoiser.decode_latents(x_t / float(schedule.alpha[0])).clamp(-1, 1).cpu()


def follow(schedule: NoiseSchedule, predict: Predict, x: Tensor, path: NDArray[np.int64]) -> Tensor:
    """The deterministic path of DDIM, in either direction (Song et al. 2021, eq. 13).

        x_s = α_s·x0(x_t) + σ_s·ε(x_t)

    Args:
        schedule: noise schedule of the model.
        predict: see `diffcls.generation.solvers.Predict`.
        x: (B, C, h, w) at the first level of the path.
        path: schedule indices; in increasing order, from an image to its noise (DDIM inversion).

    Returns:
        x at the last level of the path.
    """
    for t, s in pairwise(path):
        x0, noise, _ = predict(x, int(t))
        x = float(schedule.alpha[s]) * x0 + float(schedule.sigma[s]) * noise
    return x


def slerp(start: Tensor, end: Tensor, fraction: float) -> Tensor:
    """Spherical linear interpolation of noises (B, …), image by image (Shoemake 1985).

        sin((1−f)·θ)/sin θ·z + sin(f·θ)/sin θ·z′,    θ the angle between z and z′

    Args:
        start, end: z and z′.
        fraction: f in [0, 1].
    """
    import torch

    shape = (-1, *[1] * (start.ndim - 1))
    cosine = torch.nn.functional.cosine_similarity(start.flatten(1), end.flatten(1), dim=1)
    theta = torch.arccos(cosine.clamp(-1, 1)).reshape(shape)
    sine = torch.sin(theta)
    weights = torch.sin((1 - fraction) * theta) / sine, torch.sin(fraction * theta) / sine
    # for parallel noises sin θ is 0, and the arc is a straight line
    parallel = sine < 1e-4
    first = torch.where(parallel, torch.full_like(theta, 1 - fraction), weights[0])
    second = torch.where(parallel, torch.full_like(theta, fraction), weights[1])
    return first * start + second * end
