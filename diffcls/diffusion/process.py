"""The diffusion process: forward steps, posterior, reverse steps, annealed Langevin dynamics.

A step leads between two noise levels s < t of one schedule, s the less noisy one. Ho et al. 2020
state the formulas for adjacent levels, s = t − 1, with α_t² = ᾱ_t and σ_t² = 1 − ᾱ_t; they hold
for steps of any length and for any schedule (Kingma et al. 2021, appendix A):

    α_{t|s} = α_t/α_s,    σ²_{t|s} = σ_t² − α²_{t|s}·σ_s²    (adjacent levels: √(1 − β_t) and β_t)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class Step:
    """A step between a noise level t and a less noisy level s; or an array of such steps.

    Args:
        alpha_t, sigma_t: gains of signal and noise at t: numbers, or arrays that broadcast against
            the images.
        alpha_s, sigma_s: the same at s; 1 and 0 for the clean image.

    Raises:
        UsageError: if s is not less noisy than t.
    """

    alpha_t: Any
    sigma_t: Any
    alpha_s: Any = 1.0
    sigma_s: Any = 0.0

    def __post_init__(self) -> None:
        less = self.alpha_t * self.sigma_s < self.sigma_t * self.alpha_s
        if isinstance(less, bool | np.bool_ | np.ndarray) and not (
            np.all(less) and np.all(self.alpha_s > 0)
        ):
            raise UsageError(
                "a reverse step must lead to a lower noise-to-signal ratio",
                given=f"sigma/alpha {self.sigma_t}/{self.alpha_t} to {self.sigma_s}/{self.alpha_s}",
                allowed="a falling sigma/alpha",
            )

    @property
    def gain(self) -> Any:
        """α_{t|s} = α_t/α_s; between adjacent levels √(1 − β_t)."""
        return self.alpha_t / self.alpha_s

    @property
    def variance(self) -> Any:
        """σ²_{t|s} = σ_t² − α²_{t|s}·σ_s², the noise that the step adds; β_t if adjacent."""
        return self.sigma_t**2 - self.gain**2 * self.sigma_s**2

    @property
    def posterior_variance(self) -> Any:
        """Variance of x_s given x_t and x0: σ²_{t|s}·σ_s²/σ_t² (Ho et al. 2020, eq. 7: β̃_t)."""
        return self.variance * self.sigma_s**2 / self.sigma_t**2

    @property
    def of_x0(self) -> Any:
        """Weight of x0 in the posterior mean."""
        return self.alpha_s * self.variance / self.sigma_t**2

    @property
    def of_x_t(self) -> Any:
        """Weight of x_t in the posterior mean."""
        return self.gain * self.sigma_s**2 / self.sigma_t**2

    def forward(self, x_s: Any, noise: Any) -> Any:
        """x_t = α_{t|s}·x_s + σ_{t|s}·ε (Ho et al. 2020, eq. 2); from the clean image, eq. 4."""
        return self.gain * x_s + self.variance**0.5 * noise

    def posterior_mean(self, x0: Any, x_t: Any) -> Any:
        """Posterior mean E[x_s | x_t, x0] (Ho et al. 2020, eq. 7: μ̃_t).

            μ̃ = α_s·σ²_{t|s}/σ_t²·x0 + α_{t|s}·σ_s²/σ_t²·x_t

        With a network's estimate in place of x0 it is the mean of p(x_s | x_t).
        """
        return self.of_x0 * x0 + self.of_x_t * x_t

    def reverse(self, x0: Any, x_t: Any, variance: Any, noise: Any) -> Any:
        """A sample x_s of p(x_s | x_t) = N(μ̃(x0, x_t), variance) (Ho et al. 2020, algorithm 2)."""
        return self.posterior_mean(x0, x_t) + variance**0.5 * noise

    def rows(self, index: ArrayLike) -> Step:
        """The steps at `index`, a number or (B,), of an array of steps."""
        at = np.asarray(index)
        return Step(self.alpha_t[at], self.sigma_t[at], self.alpha_s[at], self.sigma_s[at])

    def tensors(self, like: Tensor) -> Step:
        """The B steps with gains as tensors (B, 1, …) that broadcast against images like `like`."""
        return Step(*(to_tensor(v, like) for v in astuple(self)))


def to_tensor(values: ArrayLike | Tensor, like: Tensor) -> Tensor:
    """(B,) values as a tensor (B, 1, …) that broadcasts against `like` (B, …)."""
    import torch

    # arrays are copied, because those of a schedule are read-only
    tensor = values if isinstance(values, torch.Tensor) else torch.tensor(np.asarray(values))
    return tensor.to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def chain(schedule: NoiseSchedule, path: ArrayLike | None = None) -> Step:
    """The Markov chain along a schedule as an array of steps, the first to the clean image.

    Args:
        schedule: of T levels.
        path: (n,) strictly increasing indices of the levels to visit; None visits all of them.

    Returns:
        n steps with gains (n,) in float64.

    Raises:
        UsageError: for an empty path, or one that does not increase.
    """
    at = np.arange(len(schedule)) if path is None else np.asarray(path)
    if at.ndim != 1 or at.size == 0 or (np.diff(at) <= 0).any():
        raise UsageError(
            "path does not increase", given=at.tolist(), allowed="strictly increasing indices"
        )
    alpha, sigma = schedule.alpha[at], schedule.sigma[at]
    return Step(alpha, sigma, np.append(1.0, alpha[:-1]), np.append(0.0, sigma[:-1]))


def is_flow(schedule: NoiseSchedule) -> bool:
    """Whether α + σ = 1, as in a rectified flow, and not α² + σ² = 1."""
    return bool(np.allclose(schedule.alpha + schedule.sigma, 1.0))


def betas(schedule: NoiseSchedule) -> Float64:
    """(T,) β_t = 1 − ᾱ_t/ᾱ_{t−1}: the noise that each step of the chain adds."""
    variance: Float64 = chain(schedule).variance
    return variance


def to_score(noise: Any, sigma: Any) -> Any:
    """The score ∇ log p(x_t) = −ε̂/σ_t of a noise estimate, as in score matching.

    Source: Song et al. 2021, section 3; Tweedie's formula.
    """
    return -noise / sigma


# Variances of the reverse step (Ho et al. 2020, section 3.2). Each is exact in one extreme case:
# "small" for data that is a single image, "large" for standard normal data and a
# variance-preserving schedule (not for a flow).
VARIANCES: Mapping[str, Callable[[Step], Float64]] = {
    "small": lambda steps: steps.posterior_variance,
    "large": lambda steps: steps.variance,
}


def reverse_variances(steps: Step, kind: str) -> Float64:
    """(n,) variances of p(x_s | x_t), one per step.

    The step to the clean image is the decoder's: β̃ is 0 there, so "small" takes the value of the
    next step (the code of Ho et al. 2020 does so for both kinds).

    Args:
        steps: n steps, see `chain`.
        kind: "small" (β̃_t) or "large" (β_t).

    Raises:
        UsageError: for another kind.
    """
    if kind not in VARIANCES:
        raise unknown_name("variance of the reverse step", kind, VARIANCES)
    variances = np.array(VARIANCES[kind](steps))
    if variances[0] == 0:
        variances[0] = variances[1] if len(variances) > 1 else steps.variance[0]
    return variances


def learned_variance(mixture: Any, small: Any, large: Any) -> Any:
    """Learned variance of the reverse step (Nichol and Dhariwal 2021, eq. 15).

        σ² = exp(v·log β_t + (1 − v)·log β̃_t)

    Args:
        mixture: v, the network's second output, scaled to [0, 1].
        small: β̃_t, above 0; see `reverse_variances` for the step to the clean image.
        large: β_t.
    """
    return large**mixture * small ** (1 - mixture)


def langevin(
    score: Callable[[Any, float], Any],
    x: Any,
    sigmas: Any,
    draw: Callable[[int, int], Any],
    steps: int = 100,
    epsilon: float = 2e-5,
) -> Any:
    """Annealed Langevin dynamics on a score (Song and Ermon 2019, algorithm 1).

        x ← x + a_i/2·s(x, σ_i) + √a_i·z,       a_i = ε·σ_i²/σ_L²

    Args:
        score: (x, σ) -> ∇ log p_σ(x), the score of x0 plus noise of standard deviation σ. With
            x = x_t/α_t and σ = σ_t/α_t it equals α_t·∇ log p(x_t).
        x: initial sample.
        sigmas: (L,) decreasing noise levels σ_1 > … > σ_L > 0.
        draw: (level, step) -> standard normal noise of x's shape.
        steps: steps per level.
        epsilon: ε, the step size at the last level.

    Raises:
        UsageError: for noise levels that do not decrease, or are not above 0.
    """
    levels = np.asarray(sigmas, dtype=np.float64)
    if not (levels.size and (levels > 0).all() and (np.diff(levels) < 0).all()):
        raise UsageError(
            "noise levels do not decrease",
            given=list(levels),
            allowed="one or more decreasing values above 0",
        )
    for i, sigma in enumerate(levels):
        a = epsilon * float(sigma / levels[-1]) ** 2
        for j in range(steps):
            x = x + 0.5 * a * score(x, float(sigma)) + a**0.5 * draw(i, j)
    return x
