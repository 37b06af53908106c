"""Which levels of noise a network is trained on: one of T, or any between; given, or learned.

A level is told by its log signal-to-noise ratio λ = log(α²/σ²); the signal and noise of a process
that preserves variance follow from it, α² = sigmoid(λ), σ² = sigmoid(−λ) (Kingma et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from diffcls.diffusion.schedule import NoiseSchedule

LogSnr = Callable[[Tensor], Tensor]
"""Times (B,) in [0, 1], 0 the clean end -> λ (B,), falling."""


@dataclass(frozen=True)
class Drawn:
    """The levels of a batch.

    Args:
        alpha, sigma: (B,) gains of signal and noise.
        timestep: (B,) what the network is told.
        index: (B,) of the schedule, for levels that are of one; else None.
        slope: (B,) dλ/du of a schedule that is learned, with its graph; else None.
    """

    alpha: Tensor
    sigma: Tensor
    timestep: Tensor
    index: Tensor | None = None
    slope: Tensor | None = None


class Levels(Protocol):
    """Draws the levels of a training batch."""

    def __call__(self, batch: int, rng: torch.Generator) -> Drawn:
        """`batch` levels, one from each of as many equal parts of time."""


def times(batch: int, rng: torch.Generator) -> Tensor:
    """(B,) times in [0, 1), one of each of B equal parts: steadier than B free draws."""
    return (torch.arange(batch) + torch.rand(batch, generator=rng)) / batch


def discrete(schedule: NoiseSchedule) -> Levels:
    """The T levels of a schedule, all alike (Ho et al. 2020, algorithm 1)."""
    alpha, sigma, timesteps = (
        torch.tensor(v, dtype=torch.float32)
        for v in (schedule.alpha, schedule.sigma, schedule.timesteps)
    )

    def draw(batch: int, rng: torch.Generator) -> Drawn:
        index = (times(batch, rng) * len(schedule)).long().clamp(max=len(schedule) - 1)
        return Drawn(alpha[index], sigma[index], timesteps[index], index)

    return draw


def continuous(log_snr: LogSnr, length: int) -> Levels:
    """Any level between the ends (Chen et al. 2021, section 3; Kingma et al. 2021).

    Args:
        log_snr: λ of a time.
        length: T of the schedule that sampling will use: the network is told time·T − 1, which at
            its levels is their index.
    """

    def draw(batch: int, rng: torch.Generator) -> Drawn:
        u, slope = times(batch, rng), None
        if isinstance(log_snr, nn.Module):
            # a copy: what the network is told takes no gradient
            place = u.to(next(log_snr.parameters()).device, copy=True).requires_grad_()
            value = log_snr(place)
            (slope,) = torch.autograd.grad(value.sum(), place, create_graph=True)
            value = value.detach().cpu()
        else:
            value = log_snr(u)
        alpha, sigma = torch.sigmoid(value).sqrt(), torch.sigmoid(-value).sqrt()
        return Drawn(alpha, sigma, u * length - 1, slope=slope)

    return draw


def unevenness(slope: Tensor, error: Tensor) -> Tensor:
    """What a learned schedule makes small: ½·e·λ′², its mean over times.

    The bound in continuous time is the mean of ½·|λ′(u)|·e(λ(u)), e the squared error of the noise
    (Kingma et al. 2021, eq. 17). It does not depend on what lies between the ends, but the variance
    of its estimate does, and is least where |λ′|·e is the same at all times. With e held as it is,
    that is where this has its minimum among schedules of the same ends.

    Args:
        slope: (B,) λ′(u), see `Drawn`.
        error: (B,) e, without its graph.
    """
    return (0.5 * error.detach() * slope**2).mean()


def between(schedule: NoiseSchedule) -> LogSnr:
    """λ of a schedule that preserves variance, on straight lines between its levels."""
    place = (np.arange(len(schedule)) + 1) / len(schedule)
    value = np.log(schedule.snr)

    def log_snr(u: Tensor) -> Tensor:
        found = np.interp(u.double().numpy(), place, value)
        return torch.from_numpy(found).to(u.dtype)

    return log_snr


class LearnedLogSnr(nn.Module):
    """λ as a monotone network of time, its ends given (Kingma et al. 2021, appendix H).

        λ(u) = λ_0 + (λ_1 − λ_0)·(g(u) − g(0))/(g(1) − g(0))
        g(u) = w·u + Σ_k v_k·sigmoid(a_k·u + b_k)

    with w, v and a above 0. In continuous time the bound does not depend on what lies between the
    ends; what is learned there is the least variance of its estimate.

    Args:
        first, last: λ at times 0 and 1.
        width: sigmoids.
    """

    def __init__(self, first: float, last: float, width: int = 32) -> None:
        super().__init__()
        self.ends = (first, last)
        self.linear = nn.Parameter(torch.zeros(1))  # softplus: 0.69
        self.height = nn.Parameter(torch.full((width,), -4.0))
        self.slope = nn.Parameter(torch.full((width,), 10.0))
        self.place = nn.Parameter(-10 * torch.linspace(0, 1, width))

    def forward(self, u: Tensor) -> Tensor:
        """(B,) times -> λ (B,)."""
        ends = torch.tensor([0.0, 1.0], dtype=u.dtype, device=u.device)
        g = self._rise(torch.cat([ends, u]))
        share = (g[2:] - g[0]) / (g[1] - g[0])
        return self.ends[0] + (self.ends[1] - self.ends[0]) * share

    def _rise(self, u: Tensor) -> Tensor:
        positive = nn.functional.softplus
        waves = torch.sigmoid(positive(self.slope) * u[:, None] + self.place)
        return positive(self.linear) * u + waves @ positive(self.height)


def to_schedule(log_snr: LogSnr, length: int) -> NoiseSchedule:
    """T levels of a process in continuous time: those at times (i + 1)/T."""
    u = (torch.arange(length, dtype=torch.float64) + 1) / length
    with torch.no_grad():
        value = log_snr(u.float()).double().numpy()
    return NoiseSchedule.from_alphas_cumprod(1 / (1 + np.exp(-value)))
