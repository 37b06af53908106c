"""Chroma: the pipeline's own packing, and its network's call with the tokens not masked alone."""

from __future__ import annotations

from typing import Any

import torch
from helpers.references.base import Reference
from torch import Tensor


def build() -> Any:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler
    from helpers.tiny_families import WIDTH, flow_autoencoder, t5_encoder, t5_tokenizer

    return ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=flow_autoencoder(4, 0.36, 0.12),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=8,
            approximator_hidden_dim=32,
            approximator_layers=1,
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    text, _, mask, *_ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False)
    return {"text": text, "mask": mask.long()}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    _, channels, h, w = x_t.shape
    # without the masked tokens, and without the pipeline's mask, which diffusers adds to the logits
    text = cond["text"][cond["mask"].bool()][None]
    packed = pipe._pack_latents(x_t, 1, channels, h, w)
    out = pipe.transformer(
        hidden_states=packed,
        timestep=torch.tensor([t]) / 1000,
        encoder_hidden_states=text,
        txt_ids=torch.zeros(text.shape[1], 3),
        img_ids=pipe._prepare_latent_image_ids(1, h // 2, w // 2, "cpu", torch.float32),
        return_dict=False,
    )[0]
    size = h * pipe.vae_scale_factor
    return pipe._unpack_latents(out, size, size, pipe.vae_scale_factor)


REFERENCES = {"chroma": Reference("ChromaPipeline", build, 512, encoded, output)}
