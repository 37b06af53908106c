"""A line fitted by the training loop, in one process or several."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from diffcls.training.loop import Loop, Phase, generator
from diffcls.training.recipes import Optimisation


def line(steps: int = 24) -> Phase:
    """Training of a line fit; each batch depends on its number alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(number: int) -> Tensor:
        x = torch.randn(16, 3, generator=generator("line", number))
        return (model(x) - x.sum(dim=1, keepdim=True)).pow(2).mean()

    settings = Optimisation(images=steps, batch=1, learning_rate=0.05, warmup=0.1, ema=0.9)
    return Phase("line", {"model": model}, loss, settings)


def trained(folder: str | Path, **options: object) -> dict[str, Tensor]:
    phase = line()
    loop = Loop(phase, Path(folder), quiet=True, **options)  # type: ignore[arg-type]
    loop.run()
    return dict(phase.modules["model"].state_dict())
