"""Sana: a linear-attention flow transformer conditioned on Gemma, which reads an instruction."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.prompt_truncation import report_truncation
from diffcls.models.text_defaults import text_defaults

GEMMA_TOKENS = 300
"""Of them, the first and the last of the instruction; the others are the prompt's."""


class SanaDenoiser(PipelineDenoiser):
    """Sana (Xie et al. 2024): the prompt follows the pipeline's instruction, masked."""

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        defaults = text_defaults("SanaPipeline")
        self._instruction: list[str] = defaults["complex_human_instruction"]
        super().__init__(pipeline, *args, **kwargs)

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.caption_channels, text_encoder="hidden_size")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        instruction, tokenizer = "\n".join(self._instruction), self.pipeline.tokenizer
        texts = [instruction + prompt for prompt in self._in_lower_case(prompts)]
        limit = len(tokenizer.encode(instruction)) + GEMMA_TOKENS - 2
        report_truncation(tokenizer, prompts, limit, texts)
        return super().encode_prompts(prompts)

    def prompt_keys(self, prompts: Sequence[str]) -> Sequence[Hashable]:
        """The token ids of the prompts in lower case, as the pipeline reads them."""
        return super().prompt_keys(self._in_lower_case(prompts))

    def _in_lower_case(self, prompts: Sequence[str]) -> list[str]:
        texts: list[str] = self.pipeline._text_preprocessing(list(prompts))
        return texts

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 300, D) and ``mask`` (P, 300), 1 where there is a token."""
        text, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=GEMMA_TOKENS,
            complex_human_instruction=self._instruction,
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
