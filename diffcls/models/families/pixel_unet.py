"""A U-Net over pixels: the models of DDPM, with class ids or without any condition."""

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

    The empty prompt asks for no class: of a conditional model its last class, where its card names
    one less than its table of embeddings has. An unconditional one has no labels, and knows the
    empty prompt alone.
    """

    part = "unet"
    may_learn_variance = True

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pipeline, *args, **kwargs)
        count, names = int(pipeline.unet.config.num_class_embeds or 0), self.card.labels
        self._nobody = count - 1 if count and len(names) == count - 1 else None
        self.labels = names if self._nobody is not None else ("",) * count

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H, W); a model of one channel sees the mean of the three.

        It is rounded to the 256 values that pixels have: the bound is one of whole values.
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
        if prompt == "" and self._nobody is not None:
            return self._nobody
        if prompt.isdecimal() and int(prompt) < len(self.labels or ()):
            return int(prompt)
        raise UsageError(
            "not a class of the model",
            given=prompt,
            allowed=f"0 to {len(self.labels) - 1}" if self.labels else "no class: it knows none",
        )

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        told = {"class_labels": cond["class_id"]} if self.labels else {}
        out: Tensor = self.network(x_t, timestep, **told).sample
        return out
