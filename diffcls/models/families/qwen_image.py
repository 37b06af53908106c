"""Qwen-Image: a rectified-flow transformer conditioned on states of a vision-language model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.flux import NO_GUIDANCE
from diffcls.models.families.packed import PackedDenoiser
from diffcls.models.families.padding import extended, longest, padded_to
from diffcls.models.packing import patches, tokens, unpatched, untokened
from diffcls.models.prompt_truncation import report_truncation


class QwenImageDenoiser(PackedDenoiser):
    """Qwen-Image (Wu et al. 2025): the prompt within the pipeline's template, masked."""

    def _channels(self) -> tuple[int, int]:
        # unlike Flux's, the output channels are those of one pixel
        config = self.network.config
        return int(config.in_channels) // 4, int(config.out_channels or config.in_channels // 4)

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.joint_attention_dim, text_encoder="hidden_size")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, padded to the longest; warns about prompts that will be truncated."""
        pipe = self.pipeline
        limit = pipe.tokenizer_max_length + pipe.prompt_template_encode_start_idx
        texts = [pipe.prompt_template_encode.format(prompt) for prompt in prompts]
        report_truncation(pipe.tokenizer, prompts, limit, texts)
        self._length = longest(pipe.tokenizer, texts, limit)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, L, D) and ``mask`` (P, L), 1 where there is a token."""
        with padded_to(self.pipeline, self._length):
            text, mask = self.pipeline.encode_prompt(list(prompts), device=self.device)
        if mask is None:  # all prompts are equally long
            mask = torch.ones(text.shape[:2], dtype=torch.long, device=text.device)
        length = self._length - self.pipeline.prompt_template_encode_start_idx
        return {"text": extended(text, length), "mask": extended(mask, length)}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        packed = patches(x_t)
        rows, columns = packed.shape[2:]
        guided = self.network.config.guidance_embeds
        out: Tensor = self.network(
            hidden_states=tokens(packed),
            timestep=timestep.to(self.dtype),
            guidance=torch.full((len(x_t),), NO_GUIDANCE, device=x_t.device) if guided else None,
            encoder_hidden_states=cond["text"].to(self.dtype),
            encoder_hidden_states_mask=cond["mask"],
            img_shapes=[[(1, rows, columns)]] * len(x_t),
        ).sample
        return unpatched(untokened(out, rows, columns))
