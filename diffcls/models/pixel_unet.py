"""A U-Net over pixels that reads class ids: the models of DDPM, conditioned on a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcls.denoiser import Conditioning
from diffcls.errors import ModelError
from diffcls.models.pipeline import PipelineDenoiser


class ClassUNetDenoiser(PipelineDenoiser):
    """A class-conditional ``UNet2DModel`` in a DDPM or DDIM pipeline.

    Raises:
        ModelError: for an unconditional one.
    """

    part = "unet"
    may_learn_variance = True

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        config = pipeline.unet.config
        classes = config.num_class_embeds
        if classes is None:
            raise ModelError(
                "an unconditional model says nothing about classes",
                given=f"num_class_embeds {classes}, class_embed_type {config.class_embed_type}",
                allowed="a U-Net with a table of class embeddings",
                todo="choose a text-to-image or a class-conditional model",
            )
        super().__init__(pipeline, *args, **kwargs)
        self.labels = ("",) * int(classes)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``class_id`` (P,)."""
        return {"class_id": torch.tensor([int(prompt) for prompt in prompts], device=self.device)}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(x_t, timestep, class_labels=cond["class_id"]).sample
        return out
