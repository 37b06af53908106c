"""PixArt-α and PixArt-Σ: transformers conditioned on masked hidden states of T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.cleaned_captions import CleanedCaptions
from diffcls.models.prompt_truncation import report_truncation
from diffcls.models.text_defaults import cleans_captions

TOKENS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}


class PixArtDenoiser(CleanedCaptions):
    """PixArt-α (Chen et al. 2023) and PixArt-Σ (Chen et al. 2024), with a learned variance."""

    may_learn_variance = True

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pipeline, *args, **kwargs)
        self._tokens = TOKENS[type(pipeline).__name__]

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer, prompts, self._tokens, self._cleaned(prompts))
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, L, D) and ``mask`` (P, L), 1 where there is a token."""
        text, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self._tokens,
            clean_caption=cleans_captions(),
        )
        return {"text": text, "mask": mask}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        sizes: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.network.config.use_additional_conditions:  # inputs of α at 1024 px
            side = torch.full((len(x_t), 2), self.image_size, device=x_t.device, dtype=self.dtype)
            sizes = {"resolution": side, "aspect_ratio": torch.ones_like(side[:, :1])}
        out: Tensor = self.network(
            x_t,
            encoder_hidden_states=cond["text"].to(self.dtype),
            encoder_attention_mask=cond["mask"],
            timestep=timestep,
            added_cond_kwargs=sizes,
        ).sample
        return out
