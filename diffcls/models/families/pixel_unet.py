"""Pixel U-Net: DDPM models, class-conditional or unconditional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.support.errors import UsageError


class PixelUNetDenoiser(PipelineDenoiser):
    """A ``UNet2DModel`` in a DDPM or DDIM pipeline, of three channels or of one.

    The empty prompt stands for no class: the last row of a conditional model's embedding table, if
    its card names one class fewer than the table has rows. An unconditional model has no labels and
    accepts the empty prompt alone.
    """

    part = "unet"
    may_learn_variance = True

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pipeline, *args, **kwargs)
        count, names = int(pipeline.unet.config.num_class_embeds or 0), self.card.labels
        self._no_class = count - 1 if count and len(names) == count - 1 else None
        self.labels = names if self._no_class is not None else ("",) * count

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H, W); for a model of one channel the mean of the three.

        The mean is rounded to the 256 values of a pixel, as the bound is one of discrete values.
        """
        x0 = super().encode_images(images)
        if self.sample_shape[0] == 3:
            return x0
        values = ((x0.mean(dim=1, keepdim=True) + 1) * 127.5).round()
        return values / 127.5 - 1

    def decode_latents(self, x0: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 3, H, W)."""
        return x0.expand(-1, 3, -1, -1)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``class_id`` (P,)."""
        ids = torch.tensor([self._id_of(prompt) for prompt in prompts], device=self.device)
        return {"class_id": ids}

    def _id_of(self, prompt: str) -> int:
        if prompt == "" and not self.labels:
            return 0
        if prompt == "" and self._no_class is not None:
            return self._no_class
        if prompt.isdecimal() and int(prompt) < len(self.labels or ()):
            return int(prompt)
        raise UsageError(
            "not a class id of the model",
            given=prompt,
            allowed=f"0 to {len(self.labels) - 1}"
            if self.labels
            else "the empty prompt: the model is unconditional",
        )

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        condition = {"class_labels": cond["class_id"]} if self.labels else {}
        out: Tensor = self.network(x_t, timestep, **condition).sample
        return out
