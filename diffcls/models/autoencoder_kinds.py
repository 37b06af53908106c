"""Kinds of autoencoders in diffusers: what each calls its latents, and in which layout they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffcls.models.autoencoder import Autoencoder
from diffcls.models.packing import patches, unpatched


class DeepCompression(Autoencoder):
    """``AutoencoderDC`` (Chen et al. 2024): deterministic, without a distribution."""

    def _factor(self) -> int:
        return int(self.vae.spatial_compression_ratio)

    def _encoded(self, images: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(images).latent
        return latents


class QwenImageAutoencoder(Autoencoder):
    """``AutoencoderKLQwenImage``: an autoencoder of videos, here of one frame."""

    channel_entry = "z_dim"

    def _factor(self) -> int:
        return int(2 ** len(self.vae.temperal_downsample))

    def _encoded(self, images: Tensor) -> Tensor:
        # (B, 3, H, W) -> (B, 3, 1, H, W) -> (B, C, 1, h, w) -> (B, C, h, w)
        mean: Tensor = self.vae.encode(images[:, :, None]).latent_dist.mean
        return mean[:, :, 0]

    def _decoded(self, z: Tensor) -> Tensor:
        # (B, C, h, w) -> (B, C, 1, h, w) -> (B, 3, 1, H, W) -> (B, 3, H, W)
        images: Tensor = self.vae.decode(z[:, :, None]).sample
        return images[:, :, 0]


class Flux2Autoencoder(Autoencoder):
    """``AutoencoderKLFlux2``: latents of 2×2 patches, normalised by the statistics of training.

    x0 = (z − μ)/√(σ² + ε), with the running mean μ and variance σ² of a batch norm over the
    channels of the patches.
    """

    def __init__(self, vae: Any, device: torch.device) -> None:
        super().__init__(vae, device)
        rows, columns = vae.config.patch_size
        self.channels, self.factor = self.channels * rows * columns, self.factor * rows
        deviation = torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps)
        self._shift = vae.bn.running_mean.float().reshape(-1, 1, 1)
        self._scale = 1 / deviation.float().reshape(-1, 1, 1)

    def _encoded(self, images: Tensor) -> Tensor:
        return patches(super()._encoded(images))

    def _decoded(self, z: Tensor) -> Tensor:
        return super()._decoded(unpatched(z))


class QuantisedAutoencoder(Autoencoder):
    """``VQModel``, whose latents are used before they are quantised (Kandinsky 3).

    They are not scaled: no pipeline reads the ``scaling_factor`` of the config, whose default is
    another autoencoder's.
    """

    def __init__(self, vae: Any, device: torch.device) -> None:
        super().__init__(vae, device)
        self._scale, self._shift = 1.0, 0.0

    def _encoded(self, images: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(images).latents
        return latents

    def _decoded(self, z: Tensor) -> Tensor:
        images: Tensor = self.vae.decode(z, force_not_quantize=True).sample
        return images


KINDS: Mapping[str, type[Autoencoder]] = {
    "AutoencoderKL": Autoencoder,
    "AutoencoderDC": DeepCompression,
    "AutoencoderKLQwenImage": QwenImageAutoencoder,
    "AutoencoderKLFlux2": Flux2Autoencoder,
    "VQModel": QuantisedAutoencoder,
}
"""Class of diffusers -> its kind; subclasses of one of these are of its kind."""


def autoencoder_of(vae: Any, device: torch.device) -> Autoencoder:
    """The autoencoder of a part of a pipeline, on the device of its network."""
    kind = next(KINDS[base.__name__] for base in type(vae).__mro__ if base.__name__ in KINDS)
    return kind(vae, device)
