"""Z-Image: the pipeline's own text and its network call, one row at a time."""

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
        ZImagePipeline,
        ZImageTransformer2DModel,
    )

    tokenizer = qwen_tokenizer()
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder_of_factor_8(4, scaling_factor=0.36, shift_factor=0.12),
        text_encoder=qwen3_encoder(len(tokenizer), WIDTH),
        tokenizer=tokenizer,
        transformer=ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=WIDTH,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 64, 64],
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    captions, _ = pipe.encode_prompt(list(prompts), do_classifier_free_guidance=False)
    length = max(len(caption) for caption in captions)
    text = torch.zeros(len(captions), length, WIDTH)
    mask = torch.zeros(len(captions), length, dtype=torch.long)
    for row, caption in enumerate(captions):
        text[row, : len(caption)], mask[row, : len(caption)] = caption, 1
    return {"text": text, "mask": mask}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    (text,), (mask,) = cond["text"], cond["mask"]
    time = (1000 - torch.tensor([t])) / 1000
    (out,) = pipe.transformer([x_t[0][:, None]], time, [text[mask.bool()]], return_dict=False)[0]
    return -out[:, 0][None]  # as the pipeline negates it


REFERENCES = {"z_image": Reference("ZImagePipeline", build, 512, encoded, output, size=64)}
