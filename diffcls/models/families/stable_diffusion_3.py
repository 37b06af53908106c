"""Stable Diffusion 3 and 3.5: a rectified-flow transformer with three text encoders."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.prompt_truncation import report_truncation

T5_TOKENS = 256


class StableDiffusion3Denoiser(PipelineDenoiser):
    """SD 3 (Esser et al. 2024); its third text encoder, T5, is optional."""

    def _check_parts(self) -> None:
        super()._check_parts()
        config = self.network.config
        pooled = {"text_encoder": "projection_dim", "text_encoder_2": "projection_dim"}
        self._check_text(config.pooled_projection_dim, **pooled)
        if self.pipeline.text_encoder_3 is not None:
            self._check_text(config.joint_attention_dim, text_encoder_3="d_model")

    def _positions(self) -> int:
        return int(self.network.config.pos_embed_max_size)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that the encoder of the longest context truncates."""
        if self.pipeline.text_encoder_3 is None:
            report_truncation(self.pipeline.tokenizer, prompts)
        else:
            report_truncation(self.pipeline.tokenizer_3, prompts, T5_TOKENS)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 77 + 256, D) and ``pooled`` (P, D')."""
        texts = list(prompts)
        text, _, pooled, _ = self.pipeline.encode_prompt(
            texts,
            texts,
            texts,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=T5_TOKENS,
        )
        return {"text": text, "pooled": pooled}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(
            hidden_states=x_t,
            timestep=timestep,
            encoder_hidden_states=cond["text"].to(self.dtype),
            pooled_projections=cond["pooled"].to(self.dtype),
        ).sample
        return out
