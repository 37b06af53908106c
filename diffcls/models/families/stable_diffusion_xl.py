"""Stable Diffusion XL: a U-Net conditioned on two text encoders and on image sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.controlled import ControlledUNet
from diffcls.models.prompt_truncation import report_truncation


class StableDiffusionXLDenoiser(ControlledUNet):
    """SDXL base (Podell et al. 2023), conditioned on the full image size without cropping."""

    part = "unet"

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pipeline, *args, **kwargs)
        size = (self.image_size, self.image_size)
        # original size, top left corner of the crop, target size (section 2.2): (1, 6)
        ids: Tensor = pipeline._get_add_time_ids(
            size,
            (0, 0),
            size,
            self.dtype,
            text_encoder_projection_dim=pipeline.text_encoder_2.config.projection_dim,
        )
        self._time_ids = ids.to(self.device)

    def _check_parts(self) -> None:
        super()._check_parts()
        config = self.network.config
        if isinstance(config.cross_attention_dim, int):
            both = {"text_encoder": "hidden_size", "text_encoder_2": "hidden_size"}
            self._check_text(config.cross_attention_dim, **both)
        # six sizes, each embedded, stand beside the pooled prompt
        sizes = 6 * (config.addition_time_embed_dim or 0)
        pooled = (config.projection_class_embeddings_input_dim or 0) - sizes
        self._check_text(pooled, text_encoder_2="projection_dim")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that will be truncated."""
        # one report for both: their outputs stand side by side, token by token
        report_truncation(self.pipeline.tokenizer, prompts)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, L, D), both encoders side by side, and ``pooled`` (P, D')."""
        text, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled}

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        added = {
            "text_embeds": cond["pooled"].to(self.dtype),
            "time_ids": self._time_ids.to(self.dtype).repeat(len(x_t), 1),
        }
        return self._output(
            x_t,
            timestep,
            cond,
            encoder_hidden_states=cond["text"].to(self.dtype),
            added_cond_kwargs=added,
        )
