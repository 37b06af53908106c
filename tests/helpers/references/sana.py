"""Sana: the pipeline's own text, with the instruction of its call, and its network call."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from helpers.references.base import Reference
from helpers.references.parts import gemma_tokenizer
from torch import Tensor

WIDTH = 32


def gemma_encoder(vocabulary: int) -> Any:
    from transformers import Gemma2Config, Gemma2Model

    return Gemma2Model(
        Gemma2Config(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            query_pre_attn_scalar=16,
        )
    )


def deep_compression(channels: int = 4) -> Any:
    from diffusers import AutoencoderDC

    return AutoencoderDC(
        latent_channels=channels,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        attention_head_dim=8,
        scaling_factor=0.1,
    )


def build() -> Any:
    from diffusers import DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

    tokenizer = gemma_tokenizer()
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=gemma_encoder(len(tokenizer)),
        vae=deep_compression(),
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=16,
            cross_attention_dim=32,
            caption_channels=WIDTH,
            sample_size=8,
        ),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    call = inspect.signature(pipe.__call__).parameters
    text, mask, *_ = pipe.encode_prompt(
        list(prompts),
        do_classifier_free_guidance=False,
        complex_human_instruction=call["complex_human_instruction"].default,
        max_sequence_length=call["max_sequence_length"].default,
    )
    return {"text": text, "mask": mask}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    return pipe.transformer(
        x_t,
        encoder_hidden_states=cond["text"],
        encoder_attention_mask=cond["mask"],
        timestep=torch.tensor([t]) * pipe.transformer.config.timestep_scale,
        return_dict=False,
    )[0]


def latents(pipe: Any, x: Tensor) -> Tensor:
    return pipe.vae.encode(x).latent * pipe.vae.config.scaling_factor


def images(pipe: Any, x0: Tensor) -> Tensor:
    return pipe.vae.decode(x0 / pipe.vae.config.scaling_factor, return_dict=False)[0]


REFERENCES = {
    "sana": Reference("SanaPipeline", build, 299, encoded, output, latents=latents, images=images)
}
