"""InstructPix2Pix: U-Nets that read the image to be edited beside x_t, and an instruction.

Brooks, Holynski and Efros 2023. They edit images and classify none: `diffcls.models.loading.load`
opens them only for editing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.families.stable_diffusion import StableDiffusionDenoiser
from diffcls.models.families.stable_diffusion_xl import StableDiffusionXLDenoiser

IMAGE = "image"
"""Name of the latents of the image among the conditioning."""


class InstructionEditor(PipelineDenoiser):
    """A denoiser that is conditioned on an image as well; before the class of its network."""

    def _channels(self) -> tuple[int, int]:
        """Channels of x_t, without those of the image, and of the output."""
        inputs, outputs = super()._channels()
        return inputs - (self.autoencoder.channels if self.autoencoder else 0), outputs

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        image = cond[IMAGE].to(x_t) if IMAGE in cond else torch.zeros_like(x_t)
        # (B, C, h, w) twice -> (B, 2·C, h, w)
        return super()._forward(torch.cat([x_t, image], dim=1), timestep, cond)  # type: ignore[safe-super]

    def encode_edited(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w), what the network reads of images to be edited.

        The posterior's mean as the encoder gives it, without the scale of x0.
        """
        z = self.encode_images(images)
        return z / float(self.pipeline.vae.config.scaling_factor)

    def no_instruction(self) -> Conditioning:
        """One row, the conditioning without an instruction."""
        return self.encode_prompts([""])


class InstructPix2PixDenoiser(InstructionEditor, StableDiffusionDenoiser):
    """Stable Diffusion 1 as an editor; its pipeline encodes texts on its own."""

    def _encode(self, prompts: Any) -> dict[str, Tensor]:
        """``text`` (P, L, D): hidden states, padded to the tokenizer's length L."""
        return {"text": self.pipeline._encode_prompt(list(prompts), self.device, 1, False)}


class InstructPix2PixXLDenoiser(InstructionEditor, StableDiffusionXLDenoiser):
    """Stable Diffusion XL as an editor."""

    def no_instruction(self) -> Conditioning:
        """Zeros, where the pipeline's config says so (``force_zeros_for_empty_prompt``)."""
        cond = super().no_instruction()
        if not self.pipeline.config.force_zeros_for_empty_prompt:
            return cond
        return Conditioning({name: torch.zeros_like(rows) for name, rows in cond.items()})
