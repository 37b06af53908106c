"""Self-test of a loaded model: whether it predicts what its config declares.

A wrong ``prediction_type`` would otherwise show only after hours, in a low accuracy. A few outputs
reveal it: the noise that they imply under each parameterization is compared with the true noise.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcls.diffusion.draws import noise
from diffcls.diffusion.parameterization import PARAMETERIZATIONS, Parameterization
from diffcls.models.denoiser import Denoiser
from diffcls.support.errors import ModelError
from diffcls.support.seeding import key

NOISE_LEVELS = 4
"""Least noise levels per image."""
MIN_DRAWS = 16
"""Least (image, noise level) pairs: with few images, each has more levels."""
MIN_STANDARD_ERRORS = 3.0
"""Least mean difference that counts as clear, in standard errors."""
CHANCE = 0.05
"""Greatest probability that a model whose output is no better than zero raises no warning."""
logger = logging.getLogger(__name__)


@torch.inference_mode()
def check_model(denoiser: Denoiser, images: Tensor, prompts: Sequence[str]) -> None:
    """Compare the model's output with its interpretation under each parameterization.

    At mid and high noise (σ >= α; below, the parameterizations hardly differ) every output is
    interpreted as ε, x0, v and flow, and the noise that follows is compared with the noise that was
    added. A model is rejected only if another interpretation is clearly better, image by image, and
    also better than an output of zero.

    A model looks untrained if a one-sided sign test does not reject that its output is no better
    than zero, under any of the four parameterizations: of 16 draws, 13 or more must be better,
    which chance gives with probability 0.011 each, 0.043 in all. The test counts draws, because
    the errors at different levels differ by a factor of 50, so that the standard error of their
    mean is as large as the mean. A trained model is better in 0.95 of the draws or more, at which a
    false alarm has probability 0.007. (Draws of one image count as independent: their noise is.)

    Args:
        denoiser: the model.
        images: (B, 3, H, W) in [−1, 1], two or more.
        prompts: (B,) the prompt of each image's class.

    Raises:
        ModelError: for outputs that are not finite, or that fit another parameterization.
    """
    out, x0, eps, alpha, sigma = _outputs(denoiser, images, prompts)
    if not torch.isfinite(out).all():
        raise ModelError(
            "the model's outputs are not finite",
            given=str(denoiser.dtype).removeprefix("torch."),
            todo="try --dtype float32 (or bfloat16 on an accelerator)",
        )
    errors, of_zero = {}, {}
    for name, row in PARAMETERIZATIONS.items():
        errors[name], of_zero[name] = _noise_errors(row, out, x0, eps, alpha, sigma)
    own = denoiser.parameterization.name
    better = [
        name
        for name in PARAMETERIZATIONS
        if name != own
        and _clearly_less(errors[name], of_zero[name])
        and _clearly_less(errors[name], errors[own])
    ]
    if better:
        best = min(better, key=lambda name: float(errors[name].mean()))
        raise ModelError(
            "the model does not predict what its scheduler's config declares",
            given=f"{own}, with noise errors of {errors[own].mean():.3g}",
            allowed=f"{best}, with {errors[best].mean():.3g}, fits better",
            todo="correct prediction_type in scheduler/scheduler_config.json, or skip the test "
            "with --no-check-model",
        )
    if not any(_often_less(errors[name], of_zero[name]) for name in PARAMETERIZATIONS):
        logger.warning(
            "the model looks untrained: on %d images its outputs are no better than zero",
            len(images),
        )


def _outputs(denoiser: Denoiser, images: Tensor, prompts: Sequence[str]) -> tuple[Tensor, ...]:
    """Native outputs, x0, noise, alpha and sigma of every image at every level, in float64."""
    latents = denoiser.encode_images(images)
    cond = denoiser.encode_prompts(prompts)
    gains = denoiser.schedule
    noisy = np.flatnonzero((gains.sigma >= gains.alpha) & (gains.alpha > 0.05))
    if not len(noisy):
        noisy = np.arange(len(gains))
    count = max(NOISE_LEVELS, -(-MIN_DRAWS // len(latents)))
    # midpoints of equal parts
    levels = noisy[(2 * np.arange(count) + 1) * len(noisy) // (2 * count)]
    parts = []
    for j, level in enumerate(levels.tolist()):
        eps = torch.stack(
            [noise(key("check"), i * count + j, latents.shape[1:]) for i in range(len(latents))]
        ).to(latents)
        alpha, sigma = float(gains.alpha[level]), float(gains.sigma[level])
        x_t = (alpha * latents + sigma * eps).to(denoiser.dtype)
        index = torch.full((len(latents),), level, device=latents.device)
        out = denoiser.predict(x_t, index, cond)
        columns = (out, latents, eps, torch.tensor(alpha), torch.tensor(sigma))
        shape = (len(latents), 1, 1, 1)
        parts.append([c.cpu().double() if c.ndim else c.double().expand(shape) for c in columns])
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _noise_errors(
    row: Parameterization, out: Tensor, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) mean squared errors of the noise implied by `out`, and by an output of 0."""
    x_t = alpha * x0 + sigma * eps
    both = (row.to_noise(o, x_t, alpha, sigma) - eps for o in (out, torch.zeros_like(out)))
    of_output, of_zero = ((d**2).mean(dim=(1, 2, 3)).numpy() for d in both)
    return of_output, of_zero


def _often_less(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """One-sided sign test: whether `one` is less in more draws than chance explains.

        P(K >= k) = Σ_{i >= k} C(n, i)/2ⁿ <= CHANCE/4,    k draws of n less

    The level is divided among the four parameterizations (Bonferroni).
    """
    n, k = len(one), int((one < other).sum())
    chance = sum(math.comb(n, i) for i in range(k, n + 1)) / 2**n
    return chance <= CHANCE / len(PARAMETERIZATIONS)


def _clearly_less(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether the mean paired difference lies three standard errors below zero."""
    d = one - other
    return bool(d.mean() < -MIN_STANDARD_ERRORS * d.std(ddof=1) / len(d) ** 0.5)
