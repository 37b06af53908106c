"""Ovis-Image: Flux's kind of transformer, conditioned on the last states of Qwen3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.packed import PackedDenoiser
from diffcls.models.packing import patches, positions, tokens, unpatched, untokened
from diffcls.models.prompt_truncation import report_truncation

QWEN_TOKENS = 256
"""Without the beginning of the template, whose states the pipeline drops."""


class OvisImageDenoiser(PackedDenoiser):
    """Ovis-Image (Alibaba 2025): the prompt follows the pipeline's system prompt.

    States of padding are set to 0, and the network reads them: it has no mask.
    """

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.joint_attention_dim, text_encoder="hidden_size")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        pipe = self.pipeline
        texts, limit = pipe._get_messages(list(prompts)), QWEN_TOKENS + pipe.user_prompt_begin_id
        report_truncation(pipe.tokenizer, prompts, limit, texts)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 256, D)."""
        text, *_ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=QWEN_TOKENS,
        )
        return {"text": text}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        packed = patches(x_t)
        rows, columns = packed.shape[2:]
        text = cond["text"].to(self.dtype)
        # 0, place and place, where the image has 0, row and column
        place = torch.arange(text.shape[1], device=x_t.device)
        out: Tensor = self.network(
            hidden_states=tokens(packed),
            timestep=timestep,
            encoder_hidden_states=text,
            txt_ids=torch.stack([torch.zeros_like(place), place, place], dim=1).to(self.dtype),
            img_ids=positions(rows, columns).to(x_t.device, self.dtype),
        ).sample
        return unpatched(untokened(out, rows, columns))
