"""Flux: a rectified-flow transformer over latents packed two by two into tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.packed import PackedDenoiser
from diffcls.models.packing import patches, positions, tokens, unpatched, untokened
from diffcls.models.prompt_truncation import report_truncation

T5_TOKENS = 512
NO_GUIDANCE = 1.0
"""Guidance input of a guidance-distilled model: at scale 1 the output is the plain conditional
velocity of p(x|prompt). The pipeline's default of 3.5 extrapolates away from the unconditional
output, and its error bounds no likelihood."""


class FluxDenoiser(PackedDenoiser):
    """Flux.1: dev, with a guidance scale as input, and schnell, without."""

    def _check_parts(self) -> None:
        super()._check_parts()
        config = self.network.config
        self._check_text(config.joint_attention_dim, text_encoder_2="d_model")
        self._check_text(config.pooled_projection_dim, text_encoder="hidden_size")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer_2, prompts, T5_TOKENS)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 512, D) and ``pooled`` (P, D')."""
        text, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), None, device=self.device, max_sequence_length=T5_TOKENS
        )
        return {"text": text, "pooled": pooled}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        packed = patches(x_t)
        rows, columns = packed.shape[2:]
        guided = self.network.config.guidance_embeds
        out: Tensor = self.network(
            hidden_states=tokens(packed),
            timestep=timestep,
            guidance=torch.full((len(x_t),), NO_GUIDANCE, device=x_t.device) if guided else None,
            pooled_projections=cond["pooled"].to(self.dtype),
            encoder_hidden_states=cond["text"].to(self.dtype),
            txt_ids=torch.zeros(cond["text"].shape[1], 3, device=x_t.device, dtype=self.dtype),
            img_ids=positions(rows, columns).to(x_t.device, self.dtype),
        ).sample
        return unpatched(untokened(out, rows, columns))
