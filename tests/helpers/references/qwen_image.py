"""Qwen-Image: the pipeline's own text, packing, statistics and network call."""

from __future__ import annotations

from typing import Any

import torch
from helpers.references.base import Reference
from helpers.references.parts import qwen_tokenizer
from torch import Tensor

WIDTH = 32


def text_encoder(vocabulary: int) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": vocabulary,
                "hidden_size": WIDTH,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                # the sections add up to half the width of a head
                "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": WIDTH,
            },
        )
    )


def build() -> Any:
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )

    tokenizer = qwen_tokenizer()
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 0.7, 1.1, 2.0],
        ),
        text_encoder=text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 6, 6),
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    text, mask = pipe.encode_prompt(prompts, device="cpu")
    return {"text": text, "mask": torch.ones(text.shape[:2]).long() if mask is None else mask}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    _, channels, h, w = x_t.shape
    out = pipe.transformer(
        hidden_states=pipe._pack_latents(x_t, 1, channels, h, w),
        timestep=torch.tensor([t]) / 1000,
        encoder_hidden_states=cond["text"],
        encoder_hidden_states_mask=cond["mask"],
        img_shapes=[[(1, h // 2, w // 2)]],
        return_dict=False,
    )[0]
    size = h * pipe.vae_scale_factor
    return pipe._unpack_latents(out, size, size, pipe.vae_scale_factor)[:, :, 0]


def statistics(pipe: Any) -> tuple[Tensor, Tensor]:
    config = pipe.vae.config
    shape = (1, config.z_dim, 1, 1, 1)
    return tuple(torch.tensor(config[f"latents_{name}"]).view(shape) for name in ("mean", "std"))


def latents(pipe: Any, x: Tensor) -> Tensor:
    mean, std = statistics(pipe)
    return ((pipe.vae.encode(x.unsqueeze(2)).latent_dist.mode() - mean) / std).squeeze(2)


def images(pipe: Any, x0: Tensor) -> Tensor:
    mean, std = statistics(pipe)
    return pipe.vae.decode(x0.unsqueeze(2) * std + mean, return_dict=False)[0][:, :, 0]


REFERENCES = {
    "qwen_image": Reference(
        "QwenImagePipeline", build, 1058, encoded, output, latents=latents, images=images
    )
}
