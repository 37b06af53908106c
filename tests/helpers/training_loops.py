"""A plain diffusers training loop: dropout on, noise and times from the global generators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from helpers.tiny_families import WIDTH, autoencoder, clip_encoder, clip_tokenizer, ddpm
from torch import nn

NAMES = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def trained_parts() -> dict[str, Any]:
    """Parts of a tiny Stable Diffusion whose U-Net has dropout, in the midst of a training."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    parts = {
        "unet": UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=WIDTH,
            norm_num_groups=4,
            attention_head_dim=4,
            layers_per_block=1,
            dropout=0.2,
        ),
        "vae": autoencoder(scaling_factor=0.2).requires_grad_(False).eval(),
        "text_encoder": clip_encoder(projected=False),
        "tokenizer": clip_tokenizer(),
        "scheduler": ddpm(),
    }
    parts["unet"].train()
    parts["unet"].conv_in.eval()  # a mode of its own, as frozen layers have
    parts["text_encoder"].train()
    for name, module in parts["text_encoder"].named_modules():
        if name.endswith("embeddings"):
            module.requires_grad_(False)
    return parts


def pipeline_of(parts: dict[str, Any]) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        **{name: parts[name] for name in NAMES},
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def train(steps: int, callback: Callable[[dict[str, Any], int], object]) -> dict[str, Any]:
    """Train U-Net and text encoder; the callback comes between the gradients and their use.

    Returns:
        Everything that a later step would depend on.
    """
    parts = trained_parts()
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    unet, text_encoder, scheduler = parts["unet"], parts["text_encoder"], parts["scheduler"]
    trained = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for step in range(1, steps + 1):
        digit = ["one", "two", "three"][int(3 * random.random())]
        tokens = parts["tokenizer"](f"a photo of {digit}", return_tensors="pt").input_ids
        latents = torch.randn(2, 4, 8, 8) + random.random() * float(np.random.uniform(0.5, 2))  # noqa: NPY002
        noise, times = torch.randn_like(latents), torch.randint(0, 1000, (2,))
        text = text_encoder(tokens)[0].expand(2, -1, -1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = unet(scheduler.add_noise(latents, noise, times), times, text).sample
            F.mse_loss(predicted.float(), noise).backward()
            callback(parts, step)
        optimizer.step()
        optimizer.zero_grad()
    modules: list[nn.Module] = [m for m in parts.values() if isinstance(m, nn.Module)]
    return {
        "weights": [t.clone() for m in modules for t in (*m.parameters(), *m.buffers())],
        "optimizer": [
            v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)
        ],
        "modes": [module.training for m in modules for module in m.modules()],
        "trainable": [p.requires_grad for m in modules for p in m.parameters()],
        "random": [torch.get_rng_state(), torch.rand(3)],
        "other random": [random.random(), float(np.random.rand())],  # noqa: NPY002
        "tokenizer": [parts["tokenizer"].model_max_length, parts["tokenizer"].padding_side],
        "scheduler": [dict(scheduler.config)],
    }


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names of what differs between two trainings, to the bit."""
    return [name for name in a if not _same(a[name], b[name])]


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
        for x, y in zip(a, b, strict=True)
    )
