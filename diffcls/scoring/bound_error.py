"""Errors by the variational bound, for models with a learned variance (DiT, PixArt, ADM)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from diffcls.diffusion.bound import learned_step_kl
from diffcls.diffusion.parameterization import BOUND_LOSSES
from diffcls.diffusion.process import chain, reverse_variances
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.support.errors import UsageError
from diffcls.support.invariants import known
from diffcls.support.types import Int64


class BoundError:
    """Mean over C·h·w of a step's term of the variational bound, in bits per dimension.

        KL(q(x_{t−1} | x_t, x0) ‖ p(x_{t−1} | x_t, c)) / (dimensions·ln 2)

    It is the score that Li et al. 2023 give for DiT, each timestep being weighted equally. The step
    to the clean image, where q has no variance, takes the variance of the next step, as their code.

    Args:
        denoiser: a model with a learned variance.
        indices: (N,) schedule index of each draw.
        loss: one of `diffcls.diffusion.parameterization.BOUND_LOSSES`.

    Raises:
        UsageError: for a model without a learned variance.
    """

    def __init__(self, denoiser: Denoiser, indices: Int64, loss: str) -> None:
        if not denoiser.learns_variance:
            raise UsageError(
                f"--loss {loss} needs a model with a learned variance",
                given=denoiser.card.name,
                allowed="DiT, PixArt, or a pixel U-Net with twice as many output channels",
                todo="choose --loss l2, l1 or huber",
            )
        self._denoiser, self._with_residual = denoiser, BOUND_LOSSES[loss]
        schedule, row = denoiser.schedule, denoiser.parameterization
        steps = chain(schedule)
        # x0 − x̂0 = (σ/det)·(out − target), so the means of q and p differ by of_x0 times that
        to_gap = steps.of_x0 * schedule.sigma / row.det(schedule.alpha, schedule.sigma)
        columns = np.stack([to_gap, reverse_variances(steps, "small"), steps.variance], axis=1)
        self._columns = torch.tensor(
            columns[indices], dtype=torch.float32, device=denoiser.device
        )  # (N, 3)

    def terms(
        self,
        x_t: Tensor,
        index: Tensor,
        cond: Conditioning,
        draws: Tensor,
        target: Tensor,
        to_noise: Tensor,
    ) -> list[Tensor]:
        """Terms (B, C, h, w); an error is the sum of their means over C·h·w.

        Args:
            x_t: (B, C, h, w) noisy images, in float32.
            index: (B,) schedule index of each row.
            cond: B prompts.
            draws: (B,) draw of each row.
            target: (B, C, h, w) what the network's native output should be.
            to_noise: (B, 1, 1, 1) factor from its residual to that of the noise.
        """
        out, mixture = self._denoiser.predict_both(x_t.to(self._denoiser.dtype), index, cond)
        residual = out.float() - target
        to_gap, small, large = self._columns[draws].T.reshape(3, -1, 1, 1, 1)
        kl = learned_step_kl(to_gap * residual, known(mixture).float(), small, large) / math.log(2)
        return [kl, (to_noise * residual) ** 2] if self._with_residual else [kl]
