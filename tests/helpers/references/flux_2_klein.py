"""FLUX.2 klein: the pipeline's own patches, statistics, ids and network call."""

from __future__ import annotations

from typing import Any

import torch
from helpers.references.base import Reference
from helpers.references.parts import qwen_tokenizer
from torch import Tensor

WIDTH = 16


def build() -> Any:
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = qwen_tokenizer()
    encoder = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=27,  # the pipeline reads layers 9, 18 and 27
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(encoder),
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * WIDTH,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    return {"text": pipe.encode_prompt(prompts, device="cpu")[0]}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    ids = pipe._prepare_latent_ids(x_t)
    out = pipe.transformer(
        hidden_states=pipe._pack_latents(x_t),
        timestep=torch.tensor([t]) / 1000,
        guidance=None,
        encoder_hidden_states=cond["text"],
        txt_ids=pipe._prepare_text_ids(cond["text"]),
        img_ids=ids,
        return_dict=False,
    )[0]
    return pipe._unpack_latents_with_ids(out, ids)


def statistics(pipe: Any) -> tuple[Tensor, Tensor]:
    bn, config = pipe.vae.bn, pipe.vae.config
    mean, var = bn.running_mean.view(1, -1, 1, 1), bn.running_var.view(1, -1, 1, 1)
    return mean, torch.sqrt(var + config.batch_norm_eps)


def latents(pipe: Any, x: Tensor) -> Tensor:
    return pipe._encode_vae_image(x, generator=None)


def images(pipe: Any, x0: Tensor) -> Tensor:
    mean, deviation = statistics(pipe)
    return pipe.vae.decode(pipe._unpatchify_latents(x0 * deviation + mean), return_dict=False)[0]


REFERENCES = {
    "flux_2_klein": Reference(
        "Flux2KleinPipeline", build, 512, encoded, output, latents=latents, images=images
    )
}
