"""Reference of a model family: what its tests compare the adapter with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


def kl_latents(pipe: Any, x: Tensor) -> Tensor:
    """Images (B, 3, H, W) -> scaled latents, by the pipeline's ``AutoencoderKL``."""
    config = pipe.vae.config
    mode = pipe.vae.encode(x).latent_dist.mode()
    return (mode - (config.shift_factor or 0.0)) * config.scaling_factor


def kl_images(pipe: Any, x0: Tensor) -> Tensor:
    """The inverse of `kl_latents`, as the pipeline's ``__call__`` decodes."""
    config = pipe.vae.config
    return pipe.vae.decode(x0 / config.scaling_factor + (config.shift_factor or 0.0)).sample


@dataclass(frozen=True)
class Reference:
    """A tiny pipeline, and the library's own computation of each of its steps.

    Nothing here calls the package: networks, text and latents are called as in the source of the
    pipeline's ``__call__``.

    Args:
        pipeline: name of the pipeline's class.
        build: the pipeline with random weights; the seed is set before.
        tokens: length of a prompt in tokens at which the pipeline truncates.
        encoded: (pipe, prompts) -> the tensors that the adapter's ``encode_prompts`` returns.
        output: (pipe, x_t (1, C, h, w), t in 0 to 1000, tensors of one prompt) -> (1, C, h, w): the
            noise, v, or noise − x0, by `predicts`, whatever sign the network has.
        predicts: ``epsilon``, ``v_prediction`` or ``flow``.
        latents, images: (pipe, images) -> x0, and back.
        scales_latents: whether latents are shifted or scaled.
        size: side of the images in pixels, where it is not the network's own.
    """

    pipeline: str
    build: Callable[[], Any]
    tokens: int
    encoded: Callable[[Any, list[str]], dict[str, Tensor]]
    output: Callable[[Any, Tensor, float, dict[str, Tensor]], Tensor]
    predicts: str = "flow"
    latents: Callable[[Any, Tensor], Tensor] = kl_latents
    images: Callable[[Any, Tensor], Tensor] = kl_images
    scales_latents: bool = True
    size: int | None = 32
