"""Stable Diffusion 3 and 3.5: a rectified-flow transformer with three text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.controlled import ControlledDenoiser
from diffcls.models.prompt_truncation import report_truncation
from diffcls.support.invariants import known

T5_TOKENS = 256


class StableDiffusion3Denoiser(ControlledDenoiser):
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
            block_controlnet_hidden_states=self._residuals(x_t, timestep, cond),
        ).sample
        return out

    @torch.inference_mode()
    def encode_control(self, maps: Tensor) -> Tensor:
        """Maps (B, 3, H, W) in [0, 1] -> their latents (B, C, h, w)."""
        self._residence.need("autoencoder")
        shifted = not self.control.config.force_zeros_for_pooled_projection
        return known(self.autoencoder).encode(2 * maps - 1, shifted)

    def _residuals(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Any:
        """What the ControlNet adds to the blocks; some read no pooled prompt, some no prompt."""
        if self.control is None:
            return None
        pooled, config = cond["pooled"].to(self.dtype), self.control.config
        reads_text = config.joint_attention_dim is not None
        return self.control(
            hidden_states=x_t,
            timestep=timestep,
            encoder_hidden_states=cond["text"].to(self.dtype) if reads_text else None,
            pooled_projections=0 * pooled if config.force_zeros_for_pooled_projection else pooled,
            controlnet_cond=self._control(cond),
            return_dict=False,
        )[0]
