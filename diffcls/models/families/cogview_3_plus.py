"""CogView3-Plus: a transformer conditioned on states of T5 and sizes of the image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.families.cogview_4 import image_sizes
from diffcls.models.prompt_truncation import report_truncation

T5_TOKENS = 224


class CogView3PlusDenoiser(PipelineDenoiser):
    """CogView3-Plus (Zheng et al. 2024), of v-prediction; the padding of T5 is read like text."""

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.text_embed_dim, text_encoder="d_model")

    def _positions(self) -> int:
        return int(self.network.config.pos_embed_max_size)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer, prompts, T5_TOKENS)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 224, D)."""
        text, _ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            max_sequence_length=T5_TOKENS,
            device=self.device,
        )
        return {"text": text}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(
            x_t,
            encoder_hidden_states=cond["text"].to(self.dtype),
            timestep=timestep,
            **image_sizes(self, x_t),
        ).sample
        return out
