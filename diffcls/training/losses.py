"""Training losses of a denoiser: the weighted residual, and the VLB term of a learned variance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from diffcls.diffusion import bound
from diffcls.diffusion.parameterization import Parameterization
from diffcls.diffusion.process import Step, learned_variance, reverse_variances, to_tensor
from diffcls.support.errors import unknown_name
from diffcls.support.types import Float64
from diffcls.training.noise_levels import LevelBatch

MIN_SNR_GAMMA = 5.0
"""γ of min-SNR (Hang et al. 2023, section 4)."""

Weight = Callable[[Any, Any, Any], Any]
"""(α, σ, |α/det|) of noise levels -> weight of the squared residual of the native output."""

# squared ε-residual = (α/det)² · native one; squared x0-residual = (σ/α)² · ε-residual
WEIGHTS: Mapping[str, Weight] = {
    # native output: L_simple for a network that predicts ε (Ho et al. 2020, eq. 14)
    "native": lambda alpha, sigma, to_noise: torch.ones_like(alpha),
    "epsilon": lambda alpha, sigma, to_noise: to_noise**2,
    # min(SNR, γ) on the error of x0 (Hang et al. 2023, eq. 6), so min(SNR, γ)/SNR on that of ε
    "min-snr": lambda alpha, sigma, to_noise: (
        to_noise**2 * (MIN_SNR_GAMMA * (sigma / alpha) ** 2).clamp(max=1.0)
    ),
}


def check_weighting(name: str) -> None:
    """Raise UsageError for an unknown weighting of the loss."""
    if name not in WEIGHTS:
        raise unknown_name("weighting of the loss", name, WEIGHTS)


def noised(x0: Tensor, noise: Tensor, levels: LevelBatch) -> Tensor:
    """x_t = α·x0 + σ·ε (Ho et al. 2020, eq. 4), each image at its own level."""
    x_t: Tensor = to_tensor(levels.alpha, x0) * x0 + to_tensor(levels.sigma, x0) * noise
    return x_t


def objective(
    out: Tensor,
    x0: Tensor,
    noise: Tensor,
    levels: LevelBatch,
    row: Parameterization,
    weighting: str,
) -> Tensor:
    """Weighted squared error of the native output: (B,) w(t)·‖out − (a·x0 + b·ε)‖².

    The square is a mean over dimensions.

    Args:
        out: (B, C, h, w) output of the network at x_t = α·x0 + σ·noise.
        x0, noise: (B, C, h, w).
        levels: noise level of each image.
        row: parameterization of the output, which gives a and b.
        weighting: see `WEIGHTS`.
    """
    alpha, sigma = (to_tensor(v, x0) for v in (levels.alpha, levels.sigma))
    square = (out - row.target(x0, noise, alpha, sigma)).square().flatten(1).mean(dim=1)
    to_noise = row.noise_scale(levels.alpha, levels.sigma)
    weight: Tensor = WEIGHTS[weighting](levels.alpha, levels.sigma, to_noise)
    return weight.to(square.device) * square


def variance_term(
    out: Tensor,
    mixture: Tensor,
    x0: Tensor,
    x_t: Tensor,
    levels: LevelBatch,
    steps: Step,
    row: Parameterization,
    variances: tuple[Float64, Float64],
) -> Tensor:
    """VLB term for the learned variance: (B,) L_{t−1} or L_0 of each level, in bits per dimension.

        L_hybrid = L_simple + λ·L_vlb,    λ = 0.001

    No gradient reaches the mean, which L_simple alone trains (Nichol and Dhariwal 2021, section
    3.1). L_vlb is a sum over T levels, estimated from one of them, so the training loss adds T/1000
    of this term.

    Args:
        out, mixture: (B, C, h, w) the two outputs of the network; for mixture see
            `diffcls.diffusion.process.learned_variance`.
        x0, x_t: (B, C, h, w).
        levels: noise level of each image, on a schedule.
        steps: Markov chain of that schedule.
        row: parameterization of `out`.
        variances: (T,) each, β̃ and β, see `reverse_variances`.

    Raises:
        ValueError: for continuous levels, which are no steps of a schedule.
    """
    if levels.index is None:
        raise ValueError("a learned variance needs the discrete levels of a schedule")
    at, above_first = (index.cpu().numpy() for index in (levels.index, levels.index.clamp(min=1)))
    small, large = (to_tensor(v[at], x0) for v in variances)
    variance = learned_variance(mixture, small, large)
    alpha, sigma = (to_tensor(v, x0) for v in (levels.alpha, levels.sigma))
    predicted = row.to_x0(out.detach(), x_t, alpha, sigma)
    first = levels.index == 0
    # the step of the first level has variance 0, whose logarithm has a gradient of NaN even where
    # torch.where discards it; these rows take the second level's step instead
    safe = steps.rows(above_first).tensors(x0)
    nats = torch.where(
        first.to(x0.device),
        bound.discretised_decoder()(x0, predicted, variance).flatten(1).sum(dim=1).to(x0.dtype),
        bound.step_term(safe, x0, x_t, predicted, variance),
    )
    bits: Tensor = bound.bits_per_dim(nats, x0[0].numel())
    return bits


def both_variances(steps: Step) -> tuple[Float64, Float64]:
    """(T,) each: β̃ and β, the smallest and largest variance of each reverse step."""
    return reverse_variances(steps, "small"), reverse_variances(steps, "large")
