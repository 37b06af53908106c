"""The variational bound on −log p(x0) and its terms (Ho et al. 2020, eq. 5).

    L = L_T + Σ_{t>1} L_{t−1} + L_0
    L_T     = KL(q(x_T | x0) ‖ N(0, 1))             the prior term, without parameters
    L_{t−1} = KL(q(x_{t−1} | x_t, x0) ‖ p(x_{t−1} | x_t))
    L_0     = −log p(x0 | x_1)                       the decoder

All terms are sums over dimensions in nats; `bits_per_dim` converts them to bits per dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.diffusion.process import Step
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.types import Float64, Int64

if TYPE_CHECKING:
    from torch import Tensor

Decoder = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""(x0, mean, variance), all (B, ...) -> −log p(x0) of each dimension."""


def bits_per_dim(nats: Any, dimensions: int) -> Any:
    """Bits per dimension of nats per image: nats/(dimensions·ln 2)."""
    return nats / (dimensions * math.log(2))


def gaussian_kl(mean: Tensor, variance: Tensor, mean_p: Tensor, variance_p: Tensor) -> Tensor:
    """Kullback–Leibler divergence of two Gaussians, per dimension, in nats.

    KL(N(μ, v) ‖ N(μ_p, v_p)) = ½·(log(v_p/v) + v/v_p + (μ − μ_p)²/v_p − 1)
    """
    import torch

    ratio = variance / variance_p
    return 0.5 * (ratio - 1 - torch.log(ratio) + (mean - mean_p) ** 2 / variance_p)


def learned_step_kl(gap: Tensor, mixture: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)) of a learned variance, per dimension, in nats.

    With log σ_p² = v·log β_t + (1 − v)·log β̃_t (Nichol and Dhariwal 2021, eq. 15) and the variance
    β̃_t of the posterior, `gaussian_kl` is, for r = v·log(β_t/β̃_t),

        KL = ½·(e^{−r} − 1 + r + gap²·e^{−r}/β̃_t)

    Args:
        gap: (B, ...) difference of the two means.
        mixture: (B, ...) v, the network's second output, scaled to [0, 1].
        small, large: β̃_t and β_t, above 0, broadcast against the images.
    """
    import torch

    r = mixture * torch.log(large / small)
    return 0.5 * (torch.expm1(-r) + r + gap**2 * torch.exp(-r) / small)


def prior_term(x0: Tensor, alpha: float, sigma: float) -> Tensor:
    """(B,) prior term L_T of x0 (B, ...), for a chain that ends at x_T = alpha·x0 + sigma·ε."""
    import torch

    mean = alpha * x0.double()
    var = torch.full_like(mean, sigma**2)
    kl = gaussian_kl(mean, var, torch.zeros_like(mean), torch.ones_like(mean))
    return kl.flatten(1).sum(dim=1)


def step_term(step: Step, x0: Tensor, x_t: Tensor, x0_estimate: Tensor, variance: Tensor) -> Tensor:
    """(B,) L_{t−1}: the term of a reverse step to a level that is still noisy.

        KL(q(x_s | x_t, x0) ‖ p(x_s | x_t))    (Ho et al. 2020, eq. 5)

    Args:
        step: B steps from t to s, one per image, see `Step.tensors`; s above the clean image.
        x0, x_t: (B, ...) the clean image, and the noisy image at t.
        x0_estimate: (B, ...) the network's estimate of x0 from x_t.
        variance: variance of p(x_s | x_t), broadcast against x0.
    """
    kl = gaussian_kl(
        step.posterior_mean(x0, x_t),
        step.posterior_variance,
        step.posterior_mean(x0_estimate, x_t),
        variance,
    )
    return kl.flatten(1).sum(dim=1)


def discretised_decoder(bins: int = 256) -> Decoder:
    """Discretised Gaussian decoder L_0 of images with `bins` grey levels, scaled to [−1, 1].

        p(x0 | x_1) = ∫_{δ−(x0)}^{δ+(x0)} N(x; μ, σ²) dx,    δ±(x) = x ± 1/(bins − 1)

    with δ− = −∞ at the lowest and δ+ = ∞ at the highest level (Ho et al. 2020, eq. 13).

    Raises:
        UsageError: for fewer than two bins.
    """
    if bins < 2:
        raise UsageError("bins out of range", given=bins, allowed="2 or more")
    half = 1.0 / (bins - 1)

    def nats(x0: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        import torch

        # in double precision, and mirrored to the lower tail, where Φ is small: there log Φ is
        # exact, while 1 − Φ of the upper tail would round to 0
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
        mass_above_lower = -torch.expm1(log_lower - log_upper)
        return -(log_upper + mass_above_lower.log())

    return nats


def gaussian_decoder(x0: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Gaussian decoder: −log N(x0; mean, variance) per dimension, for continuous-valued images."""
    import torch

    var = torch.as_tensor(variance, dtype=x0.dtype, device=x0.device)
    return 0.5 * (torch.log(2 * math.pi * var) + (x0 - mean) ** 2 / var)


@dataclass(frozen=True)
class Bound:
    """The variational bound of a set of images: means of its terms, in nats per image.

    Args:
        prior, steps, decoder: L_T, Σ L_{t−1} and L_0.
        simple: L_simple, the mean squared ε-error (Ho et al. 2020, eq. 14).
        mean, stderr: the bound in bits per dimension, and its standard error over images, levels
            and noise; the error is NaN for a single image.
        images: number of images.
    """

    prior: float
    steps: float
    decoder: float
    simple: float
    mean: float
    stderr: float
    images: int


def summarise(terms: Float64, dimensions: int) -> Bound:
    """The `Bound` of n images from their terms.

    Args:
        terms: (n, 4) L_T, Σ L_{t−1}, L_0 and L_simple of each image, in nats.
        dimensions: values per image.
    """
    total = bits_per_dim(terms[:, :3].sum(axis=1), dimensions)
    deviation = float(np.std(total, ddof=1)) if len(terms) > 1 else math.nan
    prior, steps, decoder, simple = terms.mean(axis=0).tolist()
    return Bound(
        prior,
        steps,
        decoder,
        simple,
        mean=float(np.mean(total)),
        stderr=deviation / math.sqrt(len(terms)),
        images=len(terms),
    )


def stratified(levels: int, count: int, rng: np.random.Generator) -> tuple[Int64, Float64]:
    """Stratified sample of the levels 1 … levels − 1, with weights for an unbiased sum.

    The levels are split into `count` strata of about equal length, and one level is sampled from
    each, weighted by the length of its stratum. The variance of the sum is at most that of `count`
    independent samples.

    Args:
        levels: T; the step to level 0 is the decoder's and is not sampled.
        count: number of strata; T − 1 or more takes every level.
        rng: source of randomness.

    Returns:
        (count,) indices, and (count,) weights whose sum is T − 1.
    """
    edges = np.linspace(1, levels, min(count, levels - 1) + 1).round().astype(int)
    length = np.diff(edges)
    index = edges[:-1] + np.floor(rng.random(len(length)) * length).astype(int)
    return index, length.astype(np.float64)


def check_finite(nats: Float64, image_ids: list[str]) -> None:
    """Raise RecordError if the bound of any image is not finite."""
    bad = [name for name, value in zip(image_ids, nats, strict=True) if not np.isfinite(value)]
    if bad:
        raise RecordError(
            f"the bound of {len(bad)} images is not finite",
            todo=f"check the pixels and the model's output for {bad[0]}",
        )
