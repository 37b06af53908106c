"""Gaussian denoiser: an analytic model in which each class is a Gaussian.

It replaces a trained model where exact values are needed: its noise prediction is the conditional
expectation itself, and its class posterior and errors have closed forms.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from diffcls.diffusion.parameterization import parameterization
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models.autoencoder import Autoencoder
from diffcls.models.denoiser import Conditioning, ModelCard
from diffcls.support.errors import ModelError


class GaussianDenoiser:
    """p(x0 | c) = N(μ_c, s²·I), denoised exactly.

    Args:
        means: prompt -> mean image (C, h, w), for each prompt that the model accepts.
        scale: s, the standard deviation of x0 about its mean, 0 or more.
        schedule: default: the scaled-linear schedule of 1000 steps.
        prediction_type: the native output of `predict`.
        device, dtype: device and data type of the outputs.
    """

    labels: tuple[str, ...] | None = None
    autoencoder: Autoencoder | None = None
    network: nn.Module | None = None
    interpolation = "bicubic"
    is_latent = False
    learns_variance = False

    def __init__(
        self,
        means: dict[str, Tensor],
        scale: float = 0.5,
        schedule: NoiseSchedule | None = None,
        prediction_type: str = "epsilon",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.schedule = schedule or NoiseSchedule.scaled_linear()
        self.parameterization = parameterization(prediction_type)
        self.means = {name: mean.to(self.device, torch.float32) for name, mean in means.items()}
        self.scale = float(scale)
        channels, height, width = next(iter(means.values())).shape
        self.sample_shape = (channels, height, width)
        self.image_size = width
        self.card = ModelCard("gaussian", f"s={scale:g}")

    def encode_images(self, images: Tensor) -> Tensor:
        """The images themselves: x0 is in pixel space."""
        return images.to(self.device, torch.float32)

    def decode_latents(self, x0: Tensor) -> Tensor:
        """x0 itself."""
        return x0

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The means (P, C, h, w) of the prompts' classes.

        Raises:
            ModelError: for a prompt that has no mean.
        """
        unknown = [prompt for prompt in prompts if prompt not in self.means]
        if unknown:
            raise ModelError("prompt without a mean", given=unknown, allowed=self.means)
        return Conditioning({"mean": torch.stack([self.means[prompt] for prompt in prompts])})

    def prompt_keys(self, prompts: Sequence[str]) -> Sequence[Hashable]:
        """The prompts themselves: each has its own mean."""
        return list(prompts)

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        """The exact conditional expectation of the native output, given x_t and the class."""
        alpha, sigma = (
            torch.as_tensor(gain, device=self.device)[index].view(-1, 1, 1, 1)
            for gain in (self.schedule.alpha.copy(), self.schedule.sigma.copy())
        )
        mean = cond["mean"].double()
        surprise = (x_t.double() - alpha * mean) / (alpha**2 * self.scale**2 + sigma**2)
        # E[x0 | x_t] = μ + α·s²·(x_t − α·μ)/(α²s² + σ²);  E[ε | x_t] = σ·(x_t − α·μ)/(α²s² + σ²)
        x0 = mean + alpha * self.scale**2 * surprise
        noise = sigma * surprise
        out: Tensor = self.parameterization.target(x0, noise, alpha, sigma)
        return out.to(self.dtype)

    def predict_both(
        self, x_t: Tensor, index: Tensor, cond: Conditioning
    ) -> tuple[Tensor, Tensor | None]:
        """The result of `predict`, and None: the variance is not learned."""
        return self.predict(x_t, index, cond), None

    def float32(self) -> AbstractContextManager[None]:
        """Do nothing: the expectation is computed in double precision anyway."""
        return nullcontext()
