"""A denoiser on a fake device ``cuda``, whose tensors have shapes but no values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from diffcls.models.denoiser import ModelCard
from diffcls.models.families.stable_diffusion import StableDiffusionDenoiser

PROMPTS = ["a photo of a 3.", "zero", "a photo of a handwritten digit seven."]


INDICES = np.array([10, 700, 350, 999, 0, 525, 120])


Pipelines = Callable[[str], Path]


def on_fake_cuda(pipe: Any, mode: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline's denoiser with its weights on the fake device."""
    for module in (pipe.vae, pipe.unet, pipe.text_encoder):
        for part in module.modules():
            for name, value in [*part._parameters.items(), *part._buffers.items()]:
                fake = value if value is None else mode.from_tensor(value).detach().to("cuda")
                if fake is not None and name in part._parameters:
                    part._parameters[name] = nn.Parameter(fake, requires_grad=False)
                elif fake is not None:
                    part._buffers[name] = fake
    # torch cannot move a module of fake tensors, and these are on the device already
    monkeypatch.setattr(nn.Module, "to", lambda self, *args, **kwargs: self)
    # fake tensors have no values to check
    monkeypatch.setattr("diffcls.models.families.base.first_not_finite", lambda cond: None)
    return StableDiffusionDenoiser(pipe, ModelCard("fake", "0"), "cuda")
