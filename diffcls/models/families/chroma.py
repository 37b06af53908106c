"""Chroma: Flux's transformer without guidance input, conditioned on masked states of T5."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.packed import PackedDenoiser
from diffcls.models.packing import patches, positions, tokens, unpatched, untokened
from diffcls.models.prompt_truncation import report_truncation

T5_TOKENS = 512


class ChromaDenoiser(PackedDenoiser):
    """Chroma1 (Lodestone Rock 2025): all padding but its first token is masked, as in training.

    diffusers' pipeline gives the network the same mask as numbers, which its attention adds to the
    logits, so that padding is read like text (huggingface/diffusers, issues 11724 and 12116); short
    prompts have nearly nothing else. Here the mask is boolean, and hides it.
    """

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.joint_attention_dim, text_encoder="d_model")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer, prompts, T5_TOKENS)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 512, D) and ``mask`` (P, 512), 1 up to the first token of padding."""
        text, _, mask, *_ = self.pipeline.encode_prompt(
            list(prompts),
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=T5_TOKENS,
        )
        return {"text": text, "mask": mask.long()}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        packed = patches(x_t)
        rows, columns = packed.shape[2:]
        text = cond["text"].to(self.dtype)
        mask = pad(cond["mask"].bool(), (0, rows * columns), value=True)  # texts before images
        out: Tensor = self.network(
            hidden_states=tokens(packed),
            timestep=timestep.to(self.dtype),
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=x_t.device, dtype=self.dtype),
            img_ids=positions(rows, columns).to(x_t.device, self.dtype),
            attention_mask=mask,
        ).sample
        return unpatched(untokened(out, rows, columns))
