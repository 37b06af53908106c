"""Reference of Lumina-Next: ``diffusers.LuminaPipeline.__call__``, without guidance."""

from __future__ import annotations

import math
from typing import Any

import torch
from helpers.references.base import Reference
from helpers.references.parts import autoencoder_of_factor_8, gemma_tokenizer
from torch import Tensor


def build() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, LuminaNextDiT2DModel, LuminaPipeline
    from transformers import GemmaConfig, GemmaModel

    tokenizer = gemma_tokenizer()
    tokenizer.add_bos_token = True  # as the published one: an empty prompt has a token, too
    transformer = LuminaNextDiT2DModel(
        sample_size=8,
        hidden_size=32,
        num_layers=2,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        cross_attention_dim=32,
    )
    with torch.no_grad():
        transformer.pad_token.zero_()  # unused, and not initialised
        for block in transformer.layers:
            block.gate.fill_(1)  # that prompts differ clearly
    return LuminaPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder_of_factor_8(scaling_factor=0.13),
        text_encoder=GemmaModel(
            GemmaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
                max_position_embeddings=512,
            )
        ),
        tokenizer=tokenizer,
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    # as `_get_gemma_prompt_embeds`, but padded to the limit: the network masks the padding
    inputs = pipe.tokenizer(
        pipe._text_preprocessing(prompts, clean_caption=True),
        max_length=pipe.max_sequence_length,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    states = pipe.text_encoder(**inputs, output_hidden_states=True).hidden_states
    return {"text": states[-2], "mask": inputs["attention_mask"]}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    width, height = x_t.shape[3] * 8, x_t.shape[2] * 8
    scaling_factor = math.sqrt(width * height / pipe.default_image_size**2)
    out = pipe.transformer(
        hidden_states=x_t,
        timestep=1 - torch.tensor([t]) / pipe.scheduler.config.num_train_timesteps,
        encoder_hidden_states=cond["text"],
        encoder_mask=cond["mask"],
        image_rotary_emb=get_2d_rotary_pos_embed_lumina(
            pipe.transformer.head_dim, 384, 384, linear_factor=scaling_factor, ntk_factor=1.0
        ),
        cross_attention_kwargs={"base_sequence_length": (pipe.default_image_size // 16) ** 2},
        return_dict=False,
    )[0]
    return -out.chunk(2, dim=1)[0]  # as the pipeline negates it


REFERENCES = {"lumina": Reference("LuminaPipeline", build, 256, encoded, output)}
