"""The variational bound on −log p(x0), term by term (Ho et al. 2020, eq. 5).

    L = L_T + Σ_{t>1} L_{t−1} + L_0
    L_T     = KL(q(x_T | x0) ‖ N(0, 1))             nothing to learn
    L_{t−1} = KL(q(x_{t−1} | x_t, x0) ‖ p(x_{t−1} | x_t))
    L_0     = −log p(x0 | x_1)                       the decoder

Sums over dimensions throughout, in nats; `bits_per_dim` brings them to the usual unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffcls.diffusion.process import Step
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.types import Float64

Decoder = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x0, mean, variance), all (B, ...) -> −log p(x0) of each dimension."""


def bits_per_dim(nats: Any, dimensions: int) -> Any:
    """Nats an image -> bits a dimension: nats/(dimensions·ln 2)."""
    return nats / (dimensions * math.log(2))


def gaussian_kl(mean: Tensor, variance: Tensor, mean_p: Tensor, variance_p: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(mean_p, variance_p)) of each dimension, in nats.

    ½·(log(v_p/v) + v/v_p + (μ − μ_p)²/v_p − 1)
    """
    ratio = variance / variance_p
    return 0.5 * (ratio - 1 - torch.log(ratio) + (mean - mean_p) ** 2 / variance_p)


def prior_term(x0: Tensor, alpha: float, sigma: float) -> Tensor:
    """(B,) L_T of x0 (B, ...), where the chain ends at x_T = alpha·x0 + sigma·ε."""
    mean = alpha * x0.double()
    var = torch.full_like(mean, sigma**2)
    found = gaussian_kl(mean, var, torch.zeros_like(mean), torch.ones_like(mean))
    return found.flatten(1).sum(dim=1)


def step_term(step: Step, x0: Tensor, x_t: Tensor, x0_estimate: Tensor, variance: Tensor) -> Tensor:
    """(B,) L_{t−1}: one step of the chain that is not the last.

    Args:
        step: from t to a level s that still holds noise, of one image each, see `Step.tensors`.
        x0, x_t: (B, ...) the image, and the image at t.
        x0_estimate: what the network makes of x_t.
        variance: of p(x_s | x_t), broadcast against x0.
    """
    found = gaussian_kl(
        step.posterior_mean(x0, x_t),
        step.posterior_variance,
        step.posterior_mean(x0_estimate, x_t),
        variance,
    )
    return found.flatten(1).sum(dim=1)


def discretised_decoder(bins: int = 256) -> Decoder:
    """L_0 of images of whole numbers 0 … bins − 1, brought to [−1, 1] (Ho et al. 2020, eq. 13).

    The probability of a value is the Gaussian's mass between the middles towards its neighbours;
    the least and the greatest value take the tails.
    """
    if bins < 2:
        raise UsageError("bins out of range", given=bins, allowed="2 or more")
    half = 1.0 / (bins - 1)

    def nats(x0: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        # in double precision, and on the side where the mass is a difference of small numbers:
        # by symmetry, log Φ of the nearer tail is exact where 1 − Φ would round to nothing
        centred = (x0 - mean).double()
        scale = torch.as_tensor(variance, device=x0.device).double().sqrt()
        flip = torch.where(centred > 0, -1.0, 1.0)
        upper = (flip * centred + half) / scale
        lower = (flip * centred - half) / scale
        low_edge, high_edge = x0 < -1 + half, x0 > 1 - half
        open_low = torch.where(flip > 0, low_edge, high_edge)
        open_high = torch.where(flip > 0, high_edge, low_edge)
        log_upper = torch.where(open_high, 0.0, torch.special.log_ndtr(upper))
        log_lower = torch.where(open_low, -torch.inf, torch.special.log_ndtr(lower))
        # log(Φ(u) − Φ(l)) = log Φ(u) + log(1 − Φ(l)/Φ(u))
        rest = -torch.expm1(log_lower - log_upper)
        return -(log_upper + rest.log())

    return nats


def gaussian_decoder(x0: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """−log N(x0; mean, variance) of each dimension: for images that are not whole numbers."""
    var = torch.as_tensor(variance, dtype=x0.dtype, device=x0.device)
    return 0.5 * (torch.log(2 * math.pi * var) + (x0 - mean) ** 2 / var)


@dataclass(frozen=True)
class Bound:
    """What the terms came to, means over images, in nats an image.

    Args:
        prior, steps, decoder: L_T, Σ L_{t−1} and L_0.
        simple: L_simple, the mean square of the noise's residual.
        mean, stderr: their sum, in bits a dimension; the standard error covers images, levels and
            noises, and is NaN for a single image.
        images: how many.
    """

    prior: float
    steps: float
    decoder: float
    simple: float
    mean: float
    stderr: float
    images: int


def summarise(terms: Float64, dimensions: int) -> Bound:
    """The terms of images (n, 4), as `diffcls.generation.likelihood.estimate` finds them, in
    one.
    """
    total = bits_per_dim(terms[:, :3].sum(axis=1), dimensions)
    spread = float(np.std(total, ddof=1)) if len(terms) > 1 else math.nan
    prior, steps, decoder, simple = terms.mean(axis=0).tolist()
    return Bound(
        prior,
        steps,
        decoder,
        simple,
        mean=float(np.mean(total)),
        stderr=spread / math.sqrt(len(terms)),
        images=len(terms),
    )


def stratified(levels: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, Float64]:
    """Which levels of 1 … levels − 1 to look at, and what each stands for.

    The levels are cut into `count` parts of about equal length, and one is drawn of each, with the
    length as its weight: the estimate of the sum is unbiased, and its variance less than that of
    `count` free draws.

    Args:
        levels: T; the step to level 0, the decoder's, is not among them.
        count: parts; T − 1 or more takes every level.

    Returns:
        (count,) indices, and (count,) weights whose sum is T − 1.
    """
    edges = np.linspace(1, levels, min(count, levels - 1) + 1).round().astype(int)
    length = np.diff(edges)
    index = edges[:-1] + np.floor(rng.random(len(length)) * length).astype(int)
    return index, length.astype(np.float64)


def check_finite(nats: Float64, image_ids: list[str]) -> None:
    """Raises RecordError for an image whose bound is not a number."""
    bad = [name for name, value in zip(image_ids, nats, strict=True) if not np.isfinite(value)]
    if bad:
        raise RecordError(
            f"the bound of {len(bad)} images is not finite",
            todo=f"look at {bad[0]}: are its pixels and the model's output finite?",
        )
