"""CogView4: a rectified-flow transformer conditioned on states of GLM-4 and sizes of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.families.padding import extended, longest
from diffcls.models.prompt_truncation import report_truncation

TOKENS = 1024
MULTIPLE = 16
"""The pipeline pads texts to a multiple of this number, in front, without a mask."""


class CogView4Denoiser(PipelineDenoiser):
    """CogView4 (Zhipu AI 2025), in Chinese and English.

    The pipeline pads a batch of prompts to its longest, and GLM-4 and the network read the padding
    like text. Here each prompt is conditioned on as the pipeline does it with this prompt alone:
    zeros behind its text make all equally long, and a mask hides them from the network.
    """

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pipeline, *args, **kwargs)
        from diffusers.models.transformers import transformer_cogview4 as library

        for block in self.network.transformer_blocks:
            # the other processor adds its mask to the logits, as 0 and 1
            block.attn1.set_processor(library.CogView4TrainingAttnProcessor())

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.text_embed_dim, text_encoder="hidden_size")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, each with its own padding; warns about prompts to be truncated."""
        report_truncation(self.pipeline.tokenizer, prompts, TOKENS)
        most = longest(self.pipeline.tokenizer, prompts, TOKENS)
        self._length = MULTIPLE * math.ceil(most / MULTIPLE)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, L, D) and ``mask`` (P, L), 1 where the pipeline has text or padding."""
        texts, masks = [], []
        for prompt in prompts:  # alone: else the longest sets the padding of all
            text, _ = self.pipeline.encode_prompt(
                prompt,
                do_classifier_free_guidance=False,
                device=self.device,
                max_sequence_length=TOKENS,
            )
            texts.append(extended(text, self._length))
            masks.append(extended(text.new_ones(text.shape[:2], dtype=torch.int32), self._length))
        return {"text": torch.cat(texts), "mask": torch.cat(masks)}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(
            x_t,
            encoder_hidden_states=cond["text"].to(self.dtype),
            timestep=timestep,
            attention_kwargs={"text_attn_mask": cond["mask"].to(torch.int32)},
            **image_sizes(self, x_t),
        ).sample
        return out


def image_sizes(denoiser: PipelineDenoiser, x_t: Tensor) -> dict[str, Tensor]:
    """Inputs of CogView's networks: the images' size in pixels, uncropped, each (B, 2)."""
    factor = denoiser.image_size // denoiser.sample_shape[1]
    size = [[side * factor for side in x_t.shape[2:]]]
    sizes = torch.tensor(size, device=x_t.device, dtype=denoiser.dtype).repeat(len(x_t), 1)
    return {
        "original_size": sizes,
        "target_size": sizes,
        "crop_coords": torch.zeros_like(sizes),
    }
