"""Autoencoder between pixels and latents: any of diffusers, constants from its own config."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Autoencoder:
    """Encoder and decoder of scaled latents, always in float32: some overflow in half precision.

    Args:
        vae: in float32, as ``AutoencoderKL``: its ``encode`` gives a distribution.
        device: device of the network.

    Attributes:
        channels: number of channels of the latents.
        factor: pixels per side of a latent value.
    """

    def __init__(self, vae: Any, device: torch.device) -> None:
        self.vae: Any = vae.to(device).eval().requires_grad_(False)
        self.device = device
        config = vae.config
        self.channels = int(config.latent_channels)
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        self._scale: float | Tensor = float(config.get("scaling_factor", None) or 1.0)
        self._shift: float | Tensor = float(config.get("shift_factor", None) or 0.0)
        mean, std = config.get("latents_mean", None), config.get("latents_std", None)
        if mean is not None and std is not None:  # constants per channel instead: (C, 1, 1)
            self._shift = torch.tensor(mean, device=device).reshape(-1, 1, 1)
            self._scale = self._scale / torch.tensor(std, device=device).reshape(-1, 1, 1)

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [−1, 1] -> (B, C, h, w): the posterior's mean, shifted and scaled."""
        mean: Tensor = self.vae.encode(images.to(self.device, torch.float32)).latent_dist.mean
        return (mean - self._shift) * self._scale

    def decode(self, x0: Tensor) -> Tensor:
        """(B, C, h, w) -> images (B, 3, H, W); differentiable."""
        z = x0.to(self.device, torch.float32) / self._scale + self._shift
        images: Tensor = self.vae.decode(z).sample
        return images
