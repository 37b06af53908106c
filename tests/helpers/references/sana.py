"""Reference of Sana: ``diffusers.SanaPipeline.__call__``, without guidance."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from helpers.references.base import Reference
from helpers.references.parts import (
    deep_compression_autoencoder,
    gemma_encoder,
    gemma_tokenizer,
)
from torch import Tensor


def instruction() -> list[str]:
    from diffusers import SanaPipeline

    return inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default


def build() -> Any:
    from diffusers import DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

    tokenizer = gemma_tokenizer()
    tokenizer.add_tokens([line.strip() for line in instruction()])  # a token for each, not a byte
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=gemma_encoder(len(tokenizer)),
        vae=deep_compression_autoencoder(scaling_factor=0.41),
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=32,
            sample_size=8,
            timestep_scale=0.5,
        ),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    text, mask, _, _ = pipe.encode_prompt(
        prompts, False, device="cpu", complex_human_instruction=instruction()
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
    "sana": Reference("SanaPipeline", build, 314, encoded, output, latents=latents, images=images)
}
