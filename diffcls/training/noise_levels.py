"""Noise levels of training batches: discrete or continuous, of a fixed or a learned schedule.

A level is given by its log signal-to-noise ratio λ = log(α²/σ²). In a variance-preserving process,
α² = sigmoid(λ) and σ² = sigmoid(−λ) (Kingma et al. 2021).
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
"""Times (B,) in [0, 1], 0 the clean end -> λ (B,), decreasing in time."""


@dataclass(frozen=True)
class LevelBatch:
    """Noise levels of a batch.

    Args:
        alpha, sigma: (B,) factors of signal and noise.
        timestep: (B,) time input of the network.
        index: (B,) index of each level in its schedule; None for continuous levels.
        slope: (B,) dλ/du of a learned schedule, with its autograd graph; else None.
    """

    alpha: Tensor
    sigma: Tensor
    timestep: Tensor
    index: Tensor | None = None
    slope: Tensor | None = None


class Levels(Protocol):
    """Sampler of the noise levels of a training batch."""

    def __call__(self, batch: int, rng: torch.Generator, lateness: float = 1.0) -> LevelBatch:
        """`batch` levels, one from each of `batch` equally probable parts of time."""


def times(batch: int, rng: torch.Generator, lateness: float = 1.0) -> Tensor:
    """Stratified times: (B,) in [0, 1), one in each of B equally probable parts.

    The loss varies less than with independent times (Kingma et al. 2021, appendix I.1).

    Args:
        batch: B.
        rng: generator; the times lie on its device.
        lateness: κ of the density κ·t^(κ−1) of a time t; 1: uniform.
    """
    uniform = torch.rand(batch, generator=rng, device=rng.device)
    even = (torch.arange(batch, device=rng.device) + uniform) / batch
    return even if lateness == 1 else even ** (1 / lateness)


def discrete(schedule: NoiseSchedule, device: torch.device | str = "cpu") -> Levels:
    """The T levels of a schedule, equally often (Ho et al. 2020, algorithm 1).

    Args:
        schedule: the levels.
        device: that of the generators.
    """
    alpha, sigma, timesteps = (
        torch.tensor(v, dtype=torch.float32, device=device)
        for v in (schedule.alpha, schedule.sigma, schedule.timesteps)
    )

    def draw(batch: int, rng: torch.Generator, lateness: float = 1.0) -> LevelBatch:
        index = (times(batch, rng, lateness) * len(schedule)).long().clamp(max=len(schedule) - 1)
        return LevelBatch(alpha[index], sigma[index], timesteps[index], index)

    return draw


def continuous(log_snr: LogSnr, length: int) -> Levels:
    """Continuous levels between the ends (Chen et al. 2021, section 3; Kingma et al. 2021).

    Args:
        log_snr: λ of a time.
        length: T of the schedule that sampling will use. The time input of the network is
            time·T − 1, which at the levels of that schedule is their index.
    """

    def draw(batch: int, rng: torch.Generator, lateness: float = 1.0) -> LevelBatch:
        u, slope = times(batch, rng, lateness), None
        if isinstance(log_snr, nn.Module):
            # a copy, so that the denoiser's time input takes no gradient
            time = u.to(next(log_snr.parameters()).device, copy=True).requires_grad_()
            value = log_snr(time)
            (slope,) = torch.autograd.grad(value.sum(), time, create_graph=True)
            value = value.detach().to(u.device)
        else:
            value = log_snr(u)
        alpha, sigma = torch.sigmoid(value).sqrt(), torch.sigmoid(-value).sqrt()
        return LevelBatch(alpha, sigma, u * length - 1, slope=slope)

    return draw


def schedule_loss(slope: Tensor, error: Tensor) -> Tensor:
    """Training loss of a learned schedule: the mean over times of ½·e·λ′².

    The bound in continuous time is the mean of ½·|λ′(u)|·e(λ(u)), where e is the squared error of
    the noise (Kingma et al. 2021, eq. 17). Its value depends on the ends of the schedule only; the
    variance of its estimate also depends on the shape between them, and is lowest where |λ′|·e is
    constant in time. For a fixed e, that shape minimises this loss.

    Args:
        slope: (B,) λ′(u), see `LevelBatch`.
        error: (B,) e; its gradient is not used.
    """
    return (0.5 * error.detach() * slope**2).mean()


def between(schedule: NoiseSchedule) -> LogSnr:
    """λ, the log-SNR of a variance-preserving schedule, as a function of time u in [0, 1].

    It is interpolated linearly between the levels of the schedule.
    """
    time = (np.arange(len(schedule)) + 1) / len(schedule)
    value = np.log(schedule.snr)

    def log_snr(u: Tensor) -> Tensor:
        interpolated = np.interp(u.double().cpu().numpy(), time, value)
        return torch.from_numpy(interpolated).to(u.device, u.dtype)

    return log_snr


class LearnedLogSnr(nn.Module):
    """Learned noise schedule: λ as a monotone network of time (Kingma et al. 2021, appendix H).

        λ(u) = λ_0 + (λ_1 − λ_0)·(g(u) − g(0))/(g(1) − g(0))
        g(u) = w·u + Σ_k v_k·sigmoid(a_k·u + b_k)

    with w, v and a above 0. The ends are fixed; the shape between them is trained by
    `schedule_loss`.

    Args:
        first, last: λ at times 0 and 1.
        width: number of sigmoids.
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
    """The schedule of T levels of a continuous-time process, at times (i + 1)/T."""
    u = (torch.arange(length, dtype=torch.float64) + 1) / length
    with torch.no_grad():
        value = log_snr(u.float()).double().numpy()
    return NoiseSchedule.from_alphas_cumprod(1 / (1 + np.exp(-value)))
