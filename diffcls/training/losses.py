"""What a denoiser is trained to make small: the residual of its output, weighted over time."""

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
from diffcls.training.noise_levels import Drawn

CAP = 5.0
"""γ of min-SNR (Hang et al. 2023, section 4)."""

Weight = Callable[[Any, Any, Any], Any]
"""(α, σ, |α/det|) of levels -> what the squared residual of the native output is multiplied by."""

# the squared ε-residual is (α/det)² times the native one; that of x0 another (σ/α)² times
WEIGHTS: Mapping[str, Weight] = {
    # of the native output: L_simple for a network that predicts ε (Ho et al. 2020, eq. 14)
    "native": lambda alpha, sigma, to_noise: torch.ones_like(alpha),
    "epsilon": lambda alpha, sigma, to_noise: to_noise**2,
    # min(SNR, γ) on the error of x0 (Hang et al. 2023, eq. 6), so min(SNR, γ)/SNR on that of ε
    "min-snr": lambda alpha, sigma, to_noise: (
        to_noise**2 * (CAP * (sigma / alpha) ** 2).clamp(max=1.0)
    ),
}


def check_weighting(name: str) -> None:
    """Raises UsageError for a weighting of the loss that is not known."""
    if name not in WEIGHTS:
        raise unknown_name("weighting of the loss", name, WEIGHTS)


def noised(x0: Tensor, noise: Tensor, levels: Drawn) -> Tensor:
    """x_t = α·x0 + σ·ε (Ho et al. 2020, eq. 4), each image at its own level."""
    found: Tensor = to_tensor(levels.alpha, x0) * x0 + to_tensor(levels.sigma, x0) * noise
    return found


def objective(
    out: Tensor, x0: Tensor, noise: Tensor, levels: Drawn, row: Parameterization, weighting: str
) -> Tensor:
    """(B,) w(t)·‖out − (a·x0 + b·ε)‖², means over dimensions.

    Args:
        out: (B, C, h, w) what the network gave for x_t.
        x0, noise: what x_t was made of.
        levels: its levels.
        row: what the network predicts.
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
    levels: Drawn,
    steps: Step,
    row: Parameterization,
    variances: tuple[Float64, Float64],
) -> Tensor:
    """(B,) the bound's term of each level, in bits a dimension, that a learned variance is led by.

    L_hybrid = L_simple + λ·L_vlb, λ = 0.001, and here the mean is left to L_simple alone (Nichol
    and Dhariwal 2021, section 3.1). L_vlb is a sum over T levels, of which one was drawn, so it is
    T/1000 of this that is added.

    Args:
        out, mixture: the network's two outputs.
        x0, x_t, levels: see `objective`; of a schedule.
        steps: its chain.
        row: what the network predicts.
        variances: (T,) each, β̃ and β, see `reverse_variances`.
    """
    if levels.index is None:
        raise ValueError("a learned variance belongs to the steps of a schedule")
    at = levels.index.cpu().numpy()
    small, large = (to_tensor(v[at], x0) for v in variances)
    variance = learned_variance(mixture, small, large)
    alpha, sigma = (to_tensor(v, x0) for v in (levels.alpha, levels.sigma))
    guess = row.to_x0(out.detach(), x_t, alpha, sigma)
    first = levels.index == 0
    # where a level is the first the step's own variance is 0, and a gradient through its logarithm
    # would be no number even where it is not taken: such rows are shown the second level's
    safe = steps.rows([max(1, int(i)) for i in at]).tensors(x0)
    nats = torch.where(
        first.to(x0.device),
        bound.discretised_decoder()(x0, guess, variance).flatten(1).sum(dim=1).to(x0.dtype),
        bound.step_term(safe, x0, x_t, guess, variance),
    )
    found: Tensor = bound.bits_per_dim(nats, x0[0].numel())
    return found


def both_variances(steps: Step) -> tuple[Float64, Float64]:
    """β̃ and β of a chain."""
    return reverse_variances(steps, "small"), reverse_variances(steps, "large")
