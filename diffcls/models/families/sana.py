"""Sana: a linear-attention rectified-flow transformer, conditioned on masked states of Gemma."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.prompt_truncation import report_truncation
from diffcls.models.text_defaults import text_defaults

GEMMA_TOKENS = 300


class SanaDenoiser(PipelineDenoiser):
    """Sana (Xie et al. 2024): each prompt follows an instruction, of which one token is kept."""

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.caption_channels, text_encoder="hidden_size")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        texts = self.pipeline._text_preprocessing(list(prompts))
        report_truncation(self.pipeline.tokenizer, texts, GEMMA_TOKENS - 1)
        return super().encode_prompts(prompts)

    def prompt_keys(self, prompts: Sequence[str]) -> Sequence[Hashable]:
        """The token ids of the prompts in lower case, as the pipeline reads them."""
        return super().prompt_keys(self.pipeline._text_preprocessing(list(prompts)))

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 300, D) and ``mask`` (P, 300), 1 where there is a token."""
        text, mask, *_ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=GEMMA_TOKENS,
            **text_defaults("SanaPipeline"),
        )
        return {"text": text, "mask": mask}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(
            x_t,
            encoder_hidden_states=cond["text"].to(self.dtype),
            encoder_attention_mask=cond["mask"],
            timestep=timestep * self.network.config.timestep_scale,
        ).sample
        return out
