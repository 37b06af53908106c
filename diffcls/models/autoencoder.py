"""Autoencoder between pixels and latents, with the constants of its own config."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from diffcls.models.json_files import is_number
from diffcls.support.errors import ModelError


class Autoencoder:
    """Encoder and decoder of scaled latents, always in float32: some overflow in half precision.

    Args:
        vae: in float32, as ``AutoencoderKL``: its ``encode`` gives a distribution.
        device: device of the network.

    Attributes:
        channels: number of channels of the latents.
        factor: pixels per side of a latent value.
    """

    channel_entry: ClassVar[str] = "latent_channels"
    """Entry of the config with the number of channels."""

    def __init__(self, vae: Any, device: torch.device) -> None:
        self.vae: Any = vae.to(device).eval().requires_grad_(False)
        self.device = device
        config = vae.config
        self.channels = int(config[self.channel_entry])
        self.factor = self._factor()
        scale, shift = config.get("scaling_factor", None), config.get("shift_factor", None)
        self._scale: float | Tensor = _constant("scaling_factor", 1.0 if scale is None else scale)
        self._shift: float | Tensor = _constant("shift_factor", 0.0 if shift is None else shift)
        mean, std = config.get("latents_mean", None), config.get("latents_std", None)
        if mean is not None and std is not None:  # constants per channel instead: (C, 1, 1)
            self._shift = self._per_channel("latents_mean", mean)
            self._scale = self._scale / self._per_channel("latents_std", std)

    def _per_channel(self, name: str, values: Any) -> Tensor:
        """(C, 1, 1) constants of the channels."""
        if not isinstance(values, list | tuple) or len(values) != self.channels:
            raise _wrong(name, values, f"{self.channels} numbers, one a channel")
        constants = [_constant(name, value) for value in values]
        return torch.tensor(constants, device=self.device).reshape(-1, 1, 1)

    def save_memory(self, slicing: bool, tiling: bool) -> None:
        """Compute image by image (`slicing`), and large images tile by tile (`tiling`).

        Raises:
            ModelError: for an autoencoder of diffusers that cannot.
        """
        for flag, wanted, method in (
            ("--vae-slicing", slicing, "enable_slicing"),
            ("--vae-tiling", tiling, "enable_tiling"),
        ):
            if wanted and not hasattr(self.vae, method):
                name = type(self.vae).__name__
                raise ModelError(f"{flag}: the autoencoder cannot", given=name, todo="remove it")
            if wanted:
                getattr(self.vae, method)()

    def is_tiled(self, side: int) -> bool:
        """Whether images of `side` pixels are encoded tile by tile, which changes their latents."""
        names = ("tile_sample_min_size", "tile_sample_min_height")
        tiles: list[int] = [getattr(self.vae, name) for name in names if hasattr(self.vae, name)]
        return bool(getattr(self.vae, "use_tiling", False)) and side > min(tiles, default=0)

    @torch.inference_mode()
    def encode(self, images: Tensor, shifted: bool = True) -> Tensor:
        """(B, 3, H, W) in [−1, 1] -> (B, C, h, w): the posterior's mean, shifted and scaled.

        Args:
            images: the images.
            shifted: False: only scaled, as some ControlNets read their maps.
        """
        mean = self._encoded(images.to(self.device, torch.float32))
        return (mean - self._shift if shifted else mean) * self._scale

    def decode(self, x0: Tensor) -> Tensor:
        """(B, C, h, w) -> images (B, 3, H, W); differentiable."""
        z = x0.to(self.device, torch.float32) / self._scale + self._shift
        return self._decoded(z)

    def _factor(self) -> int:
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def _encoded(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> latents (B, C, h, w) as the encoder gives them."""
        mean: Tensor = self.vae.encode(images).latent_dist.mean
        return mean

    def _decoded(self, z: Tensor) -> Tensor:
        """The inverse of `_encoded`."""
        images: Tensor = self.vae.decode(z).sample
        return images


def _constant(name: str, value: Any) -> float:
    """A constant of the config as a float.

    Raises:
        ModelError: unless it is finite, and greater than 0 if latents are scaled by it.
    """
    positive = name in ("scaling_factor", "latents_std")
    if not is_number(value) or (positive and not value > 0):
        raise _wrong(name, value, "a number greater than 0" if positive else "a number")
    return float(value)


def _wrong(name: str, value: object, allowed: str) -> ModelError:
    return ModelError(f"{name} in the autoencoder's config is wrong", given=value, allowed=allowed)
