"""Separation: images of a concept are explained by its own prompt, and not by other classes'.

    τ/m·softplus((m − Δ)/τ),   Δ = D/T·E(ē_k(x) − ē_0(x))

is a soft hinge over images x of the concept and random other classes k. Δ is the mean log-odds
of the concept under the posterior of the diffusion classifier (Li et al. 2023, eq. 6, with
temperature scaling). What explains a few images best need not explain the next one better than a
class of which the model has seen thousands; a wide margin of m leaves room for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffcls.concepts.posterior_draws import drawn, posterior_scale
from diffcls.concepts.preservation import frozen_prompts
from diffcls.models.denoiser import Conditioning

if TYPE_CHECKING:
    from diffcls.concepts.task import LearningTask

MARGIN, SOFTNESS = 80.0, 5.0
"""m and τ, in nats."""


class Separation:
    """(random generator) -> the soft hinge of a batch.

    Args:
        task: the task; its settings name the other classes.
        own: (T,) encoded prompts of the concept, by template.
    """

    def __init__(self, task: LearningTask, own: Conditioning) -> None:
        self.task, self.own = task, own
        self.scale = posterior_scale(task.denoiser)
        self.others = frozen_prompts(task, task.settings.against or ())

    def __call__(self, rng: torch.Generator) -> Tensor:
        odds = self.scale * self._difference(rng)
        hinge = torch.nn.functional.softplus((MARGIN - odds) / SOFTNESS)
        return SOFTNESS / MARGIN * hinge

    def _difference(self, rng: torch.Generator) -> Tensor:
        """E(ē_k − ē_0) of a batch, on the same draws and templates."""
        denoiser, batch = self.task.denoiser, self.task.settings.optimisation().batch
        draws = drawn(denoiser, self.task.x0, batch, 1, rng)
        template = torch.randint(self.own.count, (batch,), generator=rng)
        other = torch.randint(self.others.count // self.own.count, (batch,), generator=rng)
        own = self.own.rows(template.to(denoiser.device))
        rest = self.others.rows((other * self.own.count + template).to(denoiser.device))
        return (draws.errors(rest) - draws.errors(own)).mean()
