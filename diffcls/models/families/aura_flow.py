"""AuraFlow: a rectified-flow transformer conditioned on states of UMT5 with padding set to 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.prompt_truncation import report_truncation

TOKENS = 256


class AuraFlowDenoiser(PipelineDenoiser):
    """AuraFlow (Fal 2024)."""

    time_scale = 1.0

    def _native_size(self) -> object:
        # the config has half the side that the pipeline generates
        return self.autoencoder and self._default("height") // self.autoencoder.factor

    def _positions(self) -> int:
        return math.isqrt(self.network.config.pos_embed_max_size)  # rows times columns

    def _check_parts(self) -> None:
        super()._check_parts()
        self._check_text(self.network.config.joint_attention_dim, text_encoder="d_model")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        report_truncation(self.pipeline.tokenizer, prompts, TOKENS)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 256, D); the network reads no mask."""
        text, *_ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=TOKENS,
        )
        return {"text": text}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(
            x_t,
            encoder_hidden_states=cond["text"].to(self.dtype),
            timestep=timestep.to(self.dtype),
        ).sample
        return out
