"""AuraFlow: the pipeline's own text and network call."""

from __future__ import annotations

from typing import Any

import torch
from helpers.references.base import Reference
from torch import Tensor


def build() -> Any:
    from diffusers import (
        AuraFlowPipeline,
        AuraFlowTransformer2DModel,
        FlowMatchEulerDiscreteScheduler,
    )
    from helpers.tiny_families import WIDTH, autoencoder, t5_tokenizer
    from transformers import UMT5Config, UMT5EncoderModel

    tokenizer = t5_tokenizer()
    transformer = AuraFlowTransformer2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pos_embed_max_size=64,
    )
    with torch.no_grad():  # random weights as they are hardly depend on the text
        for name, parameter in transformer.named_parameters():
            if parameter.ndim > 1 and "transformer_blocks" in name:
                parameter.mul_(3)
    return AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=64, num_heads=4, num_layers=2
            )
        ),
        vae=autoencoder(4, scaling_factor=0.13),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    return {"text": pipe.encode_prompt(prompts, do_classifier_free_guidance=False)[0]}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    return pipe.transformer(
        x_t,
        encoder_hidden_states=cond["text"],
        timestep=torch.tensor([t / 1000]),
        return_dict=False,
    )[0]


REFERENCES = {"aura_flow": Reference("AuraFlowPipeline", build, 256, encoded, output)}
