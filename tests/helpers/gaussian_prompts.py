"""Six prompts of three classes on the analytic denoiser, and scorers of their errors."""

from __future__ import annotations

from typing import Any

import torch
from helpers.fake_cuda import INDICES
from torch import Tensor

from diffcls.data.prompts import PromptSet
from diffcls.diffusion.draws import DrawPlan
from diffcls.models.denoiser import Denoiser
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring.scorer import Scorer

B, SCALE, SHAPE = 8, 0.4, (3, 4, 4)
# three classes of one, two and three prompts, not in order
OF_CLASS = (2, 0, 1, 2, 1, 2)
NAMES = [f"prompt {row}" for row in range(len(OF_CLASS))]
SET = PromptSet(("a", "b", "c"), tuple(NAMES), OF_CLASS)


def gaussian(shape: tuple[int, int, int] = SHAPE, **options: Any) -> GaussianDenoiser:
    rng = torch.Generator().manual_seed(0)
    means = {name: torch.randn(shape, generator=rng) for name in NAMES}
    return GaussianDenoiser(means, SCALE, **options)


def latents(count: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(3))


def scorer_of(model: Denoiser, prompts: tuple[str, ...], **options: Any) -> Scorer:
    cond = model.encode_prompts(prompts)
    return Scorer(model, cond, DrawPlan(INDICES), **{"batch_size": B, **options})
