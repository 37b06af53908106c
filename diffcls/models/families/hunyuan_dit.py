"""HunyuanDiT: a transformer of v-prediction, conditioned on BERT and mT5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.prompt_truncation import report_truncation

BASE_SIDE = 512 // 8
"""Side in latents of the images whose positions those of other sizes are resized to: the
pipeline has 512 px and a factor of 8 in its code."""


class HunyuanDiTDenoiser(PipelineDenoiser):
    """HunyuanDiT (Li et al. 2024), in Chinese and English, with a learned variance."""

    def __init__(self, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pipeline, *args, **kwargs)
        embedding = self.network.time_extra_emb
        embedding.register_forward_pre_hook(_keep_time_exact, with_kwargs=True)

    def _channels(self) -> tuple[int, int]:
        channels = int(self.network.config.in_channels)  # learn_sigma doubles those of the output
        return channels, channels

    @property
    def learns_variance(self) -> bool:
        """Whether the output has a second half, the learned variance of the reverse step."""
        return bool(self.network.config.learn_sigma)

    def _check_parts(self) -> None:
        super()._check_parts()
        config = self.network.config
        self._check_text(config.cross_attention_dim, text_encoder="hidden_size")
        self._check_text(config.cross_attention_dim_t5, text_encoder_2="d_model")

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; warns about prompts that mT5, of the longer context, truncates."""
        report_truncation(self.pipeline.tokenizer_2, prompts, self.network.config.text_len_t5)
        return super().encode_prompts(prompts)

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """``text`` (P, 77, D), ``text_t5`` (P, 256, D'), and a mask (P, L) of each."""
        config = self.network.config
        text, mask = self._encode_by(0, prompts, config.text_len)
        text_t5, mask_t5 = self._encode_by(1, prompts, config.text_len_t5)
        return {"text": text, "mask": mask, "text_t5": text_t5, "mask_t5": mask_t5}

    def _encode_by(self, index: int, prompts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        text, _, mask, _ = self.pipeline.encode_prompt(
            list(prompts),
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=length,
            text_encoder_index=index,
        )
        return text, mask

    def _forward(self, x_t: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.network(
            x_t,
            timestep,
            encoder_hidden_states=cond["text"].to(self.dtype),
            text_embedding_mask=cond["mask"],
            encoder_hidden_states_t5=cond["text_t5"].to(self.dtype),
            text_embedding_mask_t5=cond["mask_t5"],
            image_meta_size=self._sizes(x_t),
            style=torch.zeros(len(x_t), dtype=torch.long, device=x_t.device),
            image_rotary_emb=self._rotary(x_t),
        ).sample
        return out

    def _sizes(self, x_t: Tensor) -> Tensor:
        """(B, 6) original size, target size and corner of the crop, in pixels."""
        original, corner = self._default("original_size"), self._default("crops_coords_top_left")
        factor = self.image_size // self.sample_shape[1]
        target = [side * factor for side in x_t.shape[2:]]
        sizes = torch.tensor([*original, *target, *corner])
        return sizes.to(x_t.device, torch.float32).repeat(len(x_t), 1)

    def _rotary(self, x_t: Tensor) -> Any:
        """Cosines and sines (h·w/p², D) of the rotary embedding of the patches' positions."""
        from diffusers.models.embeddings import get_2d_rotary_pos_embed
        from diffusers.pipelines.hunyuandit import pipeline_hunyuandit as library

        patch = self._patch()
        grid = tuple(side // patch for side in x_t.shape[2:])
        crop = library.get_resize_crop_region_for_grid(grid, BASE_SIDE // patch)
        width = self.network.inner_dim // self.network.num_heads
        return get_2d_rotary_pos_embed(width, crop, grid, device=x_t.device, output_type="pt")


def _keep_time_exact(_: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Inputs of the embedding of time, whose output gets the data type of the text.

    The network gives it the timestep's, which the pipeline therefore rounds to that of the weights:
    in bfloat16 a timestep above 256 is then another one.
    """
    return inputs, {**options, "hidden_dtype": inputs[1].dtype}
