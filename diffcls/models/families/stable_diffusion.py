"""Stable Diffusion 1.x and 2.x: a U-Net conditioned on a CLIP text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.controlled import ControlledUNet
from diffcls.models.prompt_truncation import report_truncation
from diffcls.support.errors import ModelError


class StableDiffusionDenoiser(ControlledUNet):
    """Stable Diffusion 1.x and 2.x (Rombach et al. 2022), and the bundled latent models."""

    part = "unet"
    copies_convolutions_on_cpu = True

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pipeline, *args, **kwargs)
        if self.device.type == "cpu":
            self.network = self.network.to(memory_format=torch.channels_last)

    def _check_parts(self) -> None:
        super()._check_parts()
        expected = self.network.config.cross_attention_dim
        width = self.pipeline.text_encoder.config.hidden_size
        if isinstance(expected, int) and expected != width:
            raise ModelError(
                "U-Net and text encoder do not fit each other",
                given=f"the U-Net expects width {expected}, the text encoder has {width}",
            )

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, L, D): hidden states, padded to the tokenizer's length L."""
        text, _ = self.pipeline.encode_prompt(list(prompts), self.device, 1, False)
        return {"text": text}

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer, prompts)
        return super().encode_prompts(prompts)

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        if self.device.type == "cpu":
            x_t = x_t.contiguous(memory_format=torch.channels_last)
        return self._output(x_t, timestep, cond, encoder_hidden_states=cond["text"].to(self.dtype))
