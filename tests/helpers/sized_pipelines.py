"""Pipelines of real classes at a chosen size, with random weights, saved without much memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from helpers.tiny_families import clip_tokenizer, ddpm, t5_tokenizer

ROOT = Path(__file__).parents[2]


def clip(width: int, layers: int, projected: bool = False, heads: int = 8) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5(width: int, layers: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=32128,
            d_model=width,
            d_kv=64,
            d_ff=4 * width,
            num_heads=width // 64,
            num_layers=layers,
        )
    )


def autoencoder(
    channels: int = 4, widths: Sequence[int] = (32, 64, 128, 128), **config: Any
) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=tuple(widths),
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=2,
        latent_channels=channels,
        sample_size=512,
        **config,
    )


def flow_autoencoder() -> Any:
    return autoencoder(
        16, scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False
    )


def unet(widths: Sequence[int], depth: int, **config: Any) -> Any:
    from diffusers import UNet2DConditionModel

    usual: dict[str, Any] = {
        "sample_size": 32,
        "block_out_channels": tuple(widths),
        "down_block_types": ("CrossAttnDownBlock2D",) * (len(widths) - 1) + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(widths) - 1),
        "layers_per_block": depth,
        "attention_head_dim": 8,
        "use_linear_projection": True,
    }
    return UNet2DConditionModel(**{**usual, **config})


def stable_diffusion(depth: int) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=autoencoder(scaling_factor=0.2),
        text_encoder=clip(512, 4),
        tokenizer=clip_tokenizer(),
        unet=unet((192, 384, 768), depth, cross_attention_dim=512),
        scheduler=ddpm(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl(depth: int) -> Any:
    from diffusers import StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13),
        text_encoder=clip(256, 2),
        text_encoder_2=clip(512, 4, projected=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            (160, 320, 640),
            2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, depth, 3 * depth),
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=6 * 256 + 512,
            cross_attention_dim=768,
        ),
        scheduler=ddpm(),
        add_watermarker=False,
    )


def stable_diffusion_3(depth: int) -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    return StableDiffusion3Pipeline(
        vae=flow_autoencoder(),
        text_encoder=clip(256, 2, projected=True),
        text_encoder_2=clip(256, 2, projected=True),
        text_encoder_3=t5(512, 4),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer(),
        transformer=SD3Transformer2DModel(
            sample_size=32,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=4 * depth,
            attention_head_dim=64,
            num_attention_heads=10,
            joint_attention_dim=512,
            caption_projection_dim=640,
            pooled_projection_dim=512,
            pos_embed_max_size=96,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux(depth: int) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    return FluxPipeline(
        vae=flow_autoencoder(),
        text_encoder=clip(256, 2),
        text_encoder_2=t5(512, 4),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=2 * depth,
            num_single_layers=4 * depth,
            attention_head_dim=64,
            num_attention_heads=10,
            joint_attention_dim=512,
            pooled_projection_dim=256,
            axes_dims_rope=(16, 24, 24),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


FAMILIES: dict[str, Callable[[int], Any]] = {
    "sd": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux": flux,
}
"""Name -> (depth of the network) -> a pipeline of some 100 to 300 million parameters."""


def save_random(build: Callable[[], Any], folder: Path, dtype: torch.dtype) -> Path:
    """Build a pipeline without weights, fill it part by part in `dtype`, and save it.

    No weight is ever in memory in another precision, and the values are small enough for every
    layer to stay finite.
    """
    torch.manual_seed(0)
    with torch.device("meta"):
        pipe = build()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(dtype).to_empty(device="cpu")
            _fill(part)
    pipe.save_pretrained(folder)
    return folder


@torch.no_grad()
def _fill(part: torch.nn.Module) -> None:
    """Weights of variance 1 / inputs, norms of 1, no biases; buffers as their modules make them."""
    for buffer in part.buffers():
        buffer.zero_()
    for name, weight in part.named_parameters():
        if weight.ndim > 1:
            weight.uniform_(-1, 1).mul_((3 / weight[0].numel()) ** 0.5)
        else:
            weight.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)


def peak_rss(arguments: Sequence[str], log: Path) -> tuple[int, int]:
    """Exit status and peak resident memory in bytes of ``python -m diffcls.evaluate``.

    The command runs in a process of its own with one thread; both streams are written to `log`.
    """
    paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-m", "diffcls.evaluate", *arguments]
    with log.open("wb") as stream:
        child = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)  # it was waited for here
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return child.returncode, usage.ru_maxrss * unit
