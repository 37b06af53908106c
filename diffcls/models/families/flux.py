"""Flux: a rectified-flow transformer over latents packed two by two into tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.controlled import ControlledDenoiser
from diffcls.models.families.packed import PackedDenoiser
from diffcls.models.packing import patches, positions, tokens, unpatched, untokened
from diffcls.models.prompt_truncation import report_truncation
from diffcls.support.errors import UsageError
from diffcls.support.invariants import known

T5_TOKENS = 512
NO_GUIDANCE = 1.0
"""Guidance input of a guidance-distilled model: at scale 1 the output is the plain conditional
velocity of p(x|prompt). The pipeline's default of 3.5 extrapolates away from the unconditional
output, and its error bounds no likelihood."""


class FluxDenoiser(ControlledDenoiser, PackedDenoiser):
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
        inputs = {
            "hidden_states": tokens(packed),
            "timestep": timestep,
            "pooled_projections": cond["pooled"].to(self.dtype),
            "encoder_hidden_states": cond["text"].to(self.dtype),
            "txt_ids": torch.zeros(cond["text"].shape[1], 3, device=x_t.device, dtype=self.dtype),
            "img_ids": positions(rows, columns).to(x_t.device, self.dtype),
        }
        residuals = self._residuals(cond, inputs)
        out: Tensor = self.network(
            **inputs, guidance=self._guidance(self.network, len(x_t)), **residuals
        ).sample
        return unpatched(untokened(out, rows, columns))

    def _guidance(self, network: Any, rows: int) -> Tensor | None:
        """(rows,) guidance input of a network that has one."""
        guided = network.config.guidance_embeds
        return torch.full((rows,), NO_GUIDANCE, device=self.device) if guided else None

    def _check_control(self) -> None:
        super()._check_control()
        if self.control.config.num_mode is not None:
            raise UsageError(
                "a ControlNet of several kinds of maps is not supported",
                given=f"{self.control.config.num_mode} kinds",
                allowed="a FluxControlNetModel of one kind",
            )

    @torch.inference_mode()
    def encode_control(self, maps: Tensor) -> Tensor:
        """Maps (B, 3, H, W) in [0, 1] -> their tokens (B, L, 4·C), or for some the images."""
        images = 2 * maps.to(self.device, torch.float32) - 1
        if self.control.input_hint_block is not None:
            return images
        self._residence.need("autoencoder")
        return tokens(patches(known(self.autoencoder).encode(images)))

    def _residuals(self, cond: Conditioning, inputs: dict[str, Any]) -> dict[str, Any]:
        """What the ControlNet adds to the double and to the single blocks."""
        if self.control is None:
            return {}
        double, single = self.control(
            **inputs,
            controlnet_cond=self._control(cond),
            guidance=self._guidance(self.control, len(inputs["timestep"])),
            return_dict=False,
        )
        return {
            "controlnet_block_samples": double,
            "controlnet_single_block_samples": single,
            "controlnet_blocks_repeat": self.control.input_hint_block is not None,
        }
