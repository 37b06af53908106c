"""An analytic model that knows every prompt: its mean image is a keyed random one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from diffcls.classifiers import model_options
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.support.seeding import key

SHAPE = (3, 8, 8)


class TextGaussian(GaussianDenoiser):
    """`GaussianDenoiser` with a mean for each text; that of the empty prompt is 0."""

    def __init__(self, scale: float = 0.3) -> None:
        super().__init__({"": torch.zeros(SHAPE)}, scale)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning({"mean": torch.stack([mean_of(text) for text in prompts])})


def mean_of(text: str) -> torch.Tensor:
    rng = torch.Generator().manual_seed(key("mean", text))
    return (torch.rand(SHAPE, generator=rng) - 0.5) * bool(text)


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every evaluation run on this model, whatever its name."""
    monkeypatch.setattr(model_options, "load_denoiser", lambda *_: (TextGaussian(), "cpu"))
