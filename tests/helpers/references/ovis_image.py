"""Ovis-Image: the pipeline's own text, packing, ids and network call."""

from __future__ import annotations

from typing import Any

import torch
from helpers.references.base import Reference
from helpers.references.parts import autoencoder_of_factor_8, qwen3_encoder, qwen_tokenizer
from torch import Tensor

WIDTH = 32


def build() -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        OvisImagePipeline,
        OvisImageTransformer2DModel,
    )

    tokenizer = qwen_tokenizer()
    return OvisImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder_of_factor_8(4, scaling_factor=0.36, shift_factor=0.12),
        text_encoder=qwen3_encoder(len(tokenizer), WIDTH),
        tokenizer=tokenizer,
        transformer=OvisImageTransformer2DModel(
            in_channels=16,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 6, 6),
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    text, *_ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device="cpu")
    return {"text": text}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    _, channels, h, w = x_t.shape
    _, _, text_ids, _ = pipe.encode_prompt("", do_classifier_free_guidance=False, device="cpu")
    out = pipe.transformer(
        hidden_states=pipe._pack_latents(x_t, 1, channels, h, w),
        timestep=torch.tensor([t]) / 1000,
        encoder_hidden_states=cond["text"],
        txt_ids=text_ids,
        img_ids=pipe._prepare_latent_image_ids(1, h // 2, w // 2, "cpu", x_t.dtype),
        return_dict=False,
    )[0]
    factor = pipe.vae_scale_factor
    return pipe._unpack_latents(out, h * factor, w * factor, factor)


REFERENCES = {
    "ovis_image": Reference("OvisImagePipeline", build, 256 + 28, encoded, output, size=64)
}
