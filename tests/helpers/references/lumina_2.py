"""Reference of Lumina-Image 2: ``diffusers.Lumina2Pipeline.__call__``, without guidance."""

from __future__ import annotations

from typing import Any

import torch
from helpers.references.base import Reference
from helpers.references.parts import autoencoder_of_factor_8, gemma_encoder, gemma_tokenizer
from torch import Tensor


def build() -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        Lumina2Pipeline,
        Lumina2Transformer2DModel,
    )

    tokenizer = gemma_tokenizer()
    return Lumina2Pipeline(
        transformer=Lumina2Transformer2DModel(
            sample_size=4,
            in_channels=4,
            hidden_size=32,
            num_layers=2,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=(4, 6, 6),
            axes_lens=(300, 32, 32),
            cap_feat_dim=32,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=autoencoder_of_factor_8(4, scaling_factor=0.36, shift_factor=0.12),
        text_encoder=gemma_encoder(len(tokenizer)),
        tokenizer=tokenizer,
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    text, mask, _, _ = pipe.encode_prompt(prompts, False, device="cpu")
    return {"text": text, "mask": mask}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    out = pipe.transformer(
        hidden_states=x_t,
        timestep=1 - torch.tensor([t]) / 1000,
        encoder_hidden_states=cond["text"],
        encoder_attention_mask=cond["mask"],
        return_dict=False,
    )[0]
    return -out  # as the pipeline negates it


REFERENCES = {"lumina_2": Reference("Lumina2Pipeline", build, 256, encoded, output)}
