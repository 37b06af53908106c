"""FLUX.2 klein: a rectified-flow transformer over normalised patches of latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.packing import tokens, untokened
from diffcls.models.pipeline_view import text_config
from diffcls.models.prompt_truncation import in_chat_template, report_truncation
from diffcls.models.text_defaults import text_defaults
from diffcls.support.errors import ModelError

QWEN_TOKENS = 512


class Flux2KleinDenoiser(PipelineDenoiser):
    """FLUX.2 klein (Black Forest Labs 2026): three layers of Qwen3, padding too."""

    time_scale = 1.0

    def _native_size(self) -> object:
        # in latents of 8 pixels, of which a patch has 2×2; no config of a part has a size
        return self.pipeline.default_sample_size // 2

    def _channels(self) -> tuple[int, int]:
        config = self.network.config
        return int(config.in_channels), int(config.out_channels or config.in_channels)

    def _check_parts(self) -> None:
        super()._check_parts()
        self._layers = tuple(text_defaults("Flux2KleinPipeline")["text_encoder_out_layers"])
        width, count = int(self.network.config.joint_attention_dim), len(self._layers)
        self._check_text(width // count, text_encoder="hidden_size")
        depth = int(text_config(self.pipeline.text_encoder).num_hidden_layers)
        if depth < max(self._layers):
            raise ModelError(
                "the text encoder has fewer layers than the pipeline reads",
                given=f"{depth} layers",
                allowed=f"at least {max(self._layers)}",
            )

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        tokenizer = self.pipeline.tokenizer
        texts = in_chat_template(tokenizer, prompts, thinking=False)
        report_truncation(tokenizer, prompts, QWEN_TOKENS, texts)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 512, 3·D); the network reads no mask.

        One prompt at a time: the encoder computes the logits of all positions, too, and those of
        16 prompts would take gigabytes.
        """
        encoded = [
            self.pipeline.encode_prompt(
                prompt,
                device=self.device,
                max_sequence_length=QWEN_TOKENS,
                text_encoder_out_layers=self._layers,
            )[0]
            for prompt in prompts
        ]
        return {"text": torch.cat(encoded)}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        rows, columns = x_t.shape[2:]
        text, pipe = cond["text"].to(self.dtype), self.pipeline
        out: Tensor = self.network(
            hidden_states=tokens(x_t),
            timestep=timestep.to(self.dtype),
            guidance=None,
            encoder_hidden_states=text,
            txt_ids=pipe._prepare_text_ids(text[:1]).to(x_t.device).expand(len(text), -1, -1),
            img_ids=pipe._prepare_latent_ids(x_t).to(x_t.device),
        ).sample
        return untokened(out, rows, columns)
