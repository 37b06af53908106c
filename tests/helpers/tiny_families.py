"""Tiny pipelines of every supported family: the real diffusers classes with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.references import REFERENCES
from torch import nn

WIDTH = 32
PROMPT_WORDS = "a photo of handwritten digit zero one two three four five six seven eight nine"


@cache
def clip_tokenizer(max_tokens: int = 77) -> Any:
    from diffcls.data.training_captions import caption
    from diffcls.models.small_stable_diffusion import TinyConfig, build_tokenizer

    captions = [caption("digits", i % 10, 0, i) for i in range(200)]
    return build_tokenizer(captions, TinyConfig(max_tokens=max_tokens, vocabulary=600))


@cache
def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    letters = [
        (f"{space}{c}", -4.0)
        for c in "abcdefghijklmnopqrstuvwxyz0123456789.-"
        for space in ("", "▁")
    ]
    words = [(f"▁{word}", -2.0) for word in PROMPT_WORDS.split()]
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -5.0)]
    tokenizer = T5Tokenizer(vocab=[*specials, *letters, *dict(words).items()], extra_ids=0)
    tokenizer.model_max_length = 512
    return tokenizer


def clip_encoder(projected: bool, hidden: int = WIDTH) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=hidden,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5_encoder() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokenizer()),
            d_model=WIDTH,
            d_kv=8,
            d_ff=64,
            num_heads=4,
            num_layers=2,
        )
    )


def autoencoder(channels: int = 4, **config: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        **config,
    )


def flow_autoencoder(channels: int, scaling_factor: float, shift_factor: float) -> Any:
    return autoencoder(
        channels,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def unet(**config: Any) -> Any:
    from diffusers import UNet2DConditionModel

    usual: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": WIDTH,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "layers_per_block": 1,
    }
    return UNet2DConditionModel(**{**usual, **config})


def ddpm(prediction_type: str = "epsilon") -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def stable_diffusion(scheduler: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=autoencoder(scaling_factor=0.2),
        text_encoder=clip_encoder(projected=False),
        tokenizer=clip_tokenizer(),
        unet=unet(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd1() -> Any:
    """With the sampler shipped with Stable Diffusion 1.5, not the scheduler of its training."""
    from diffusers import PNDMScheduler

    return stable_diffusion(PNDMScheduler.from_config(ddpm().config, skip_prk_steps=True))


def sd2() -> Any:
    """With v-prediction, like Stable Diffusion 2 at 768 px."""
    from diffusers import DDIMScheduler

    return stable_diffusion(DDIMScheduler.from_config(ddpm("v_prediction").config))


def sdxl() -> Any:
    """With the Euler sampler, whose ``add_noise`` is variance-exploding."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13, force_upcast=True),
        text_encoder=clip_encoder(projected=False),
        text_encoder_2=clip_encoder(projected=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=2 * WIDTH,
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler.from_config(ddpm().config),
        add_watermarker=False,
    )


def sd3(with_t5: bool = True) -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    return StableDiffusion3Pipeline(
        vae=flow_autoencoder(16, 1.5, 0.06),
        text_encoder=clip_encoder(projected=True),
        text_encoder_2=clip_encoder(projected=True),
        text_encoder_3=t5_encoder() if with_t5 else None,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer() if with_t5 else None,
        transformer=SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * WIDTH,
            pos_embed_max_size=32,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def sd3_without_t5() -> Any:
    return sd3(with_t5=False)


def flux(guidance: bool = False) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    return FluxPipeline(
        vae=flow_autoencoder(4, 0.36, 0.12),
        text_encoder=clip_encoder(projected=False),
        text_encoder_2=t5_encoder(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


def flux_guided() -> Any:
    return flux(guidance=True)


def pixart(sigma: bool = False, sizes: bool = False) -> Any:
    from diffusers import PixArtAlphaPipeline, PixArtSigmaPipeline, PixArtTransformer2DModel

    return (PixArtSigmaPipeline if sigma else PixArtAlphaPipeline)(
        vae=autoencoder(scaling_factor=0.2),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=PixArtTransformer2DModel(
            sample_size=16,
            num_layers=2,
            patch_size=2,
            attention_head_dim=12,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=24,
            caption_channels=WIDTH,
            norm_type="ada_norm_single",
            use_additional_conditions=sizes,
        ),
        scheduler=ddpm(),
    )


def pixart_sigma() -> Any:
    return pixart(sigma=True)


def pixart_sizes() -> Any:
    return pixart(sizes=True)


def dit(classes: int = 10) -> Any:
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    return DiTPipeline(
        vae=autoencoder(scaling_factor=0.2),
        transformer=DiTTransformer2DModel(
            sample_size=16,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            norm_type="ada_norm_zero",
            num_embeds_ada_norm=classes,
        ),
        scheduler=DDIMScheduler.from_config(ddpm().config),
    )


def class_unet(classes: int | None = 11) -> Any:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    return DDPMPipeline(
        unet=UNet2DModel(
            sample_size=16,
            in_channels=3,
            out_channels=3,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
            num_class_embeds=classes,
        ),
        scheduler=DDPMScheduler(),
    )


def unconditional() -> Any:
    return class_unet(classes=None)


Builder = Callable[[], Any]
TEXT: dict[str, Builder] = {
    b.__name__: b
    for b in (
        sd1,
        sd2,
        sdxl,
        sd3,
        sd3_without_t5,
        flux,
        flux_guided,
        pixart,
        pixart_sigma,
        pixart_sizes,
    )
}
TEXT |= {name: reference.build for name, reference in REFERENCES.items()}
CLASSES: dict[str, Builder] = {b.__name__: b for b in (dit, class_unet)}
FAMILIES = {**TEXT, **CLASSES}
VARIANTS = {"sd2", "sd3_without_t5", "flux_guided", "pixart_sigma", "pixart_sizes"}
"""Families that differ from another one in a detail: tests of all families are slow for them."""


def each(names: Iterable[str]) -> list[Any]:
    """Parameters of a test of these families."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in VARIANTS else [])
        for name in sorted(names)
    ]


def save(build: Builder, folder: Path) -> None:
    """Save a pipeline with weights from a seed, clearly dependent on its prompts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = build()
        with torch.no_grad():
            for part in pipeline.components.values():
                if isinstance(part, nn.Module):
                    _strengthen(part)
    pipeline.save_pretrained(folder, safe_serialization=True)


def saved(name: str, base: Path) -> Path:
    """Folder of the family below `base`, saved on first use: copy it before modifying it."""
    folder = base / "families" / name
    if not folder.exists():
        save(FAMILIES[name], folder)
    return folder


@cache
def loaded(folder: Path) -> Any:
    """The denoiser of a folder of `saved`, loaded once: for tests that do not modify it."""
    from diffcls.models import loading

    return loading.load(str(folder), img_size=size_of(folder.name))


def size_of(name: str) -> int | None:
    """Image size if it differs from the network's own: that of Flux is 1024."""
    if name in REFERENCES:
        return REFERENCES[name].size
    return 32 if name.startswith("flux") else None


def predicts(name: str) -> str:
    """Prediction type of the family."""
    if name in REFERENCES:
        return REFERENCES[name].predicts
    if name.startswith(("sd3", "flux")):
        return "flow"
    return "v_prediction" if name == "sd2" else "epsilon"


def _strengthen(module: nn.Module) -> None:
    """Raise weights that are initialised to zero, and those of cross-attention."""
    for parameter in module.parameters():
        if parameter.ndim > 1 and float(parameter.abs().max()) < 1e-3:
            parameter.normal_(std=0.05)
    for name, parameter in module.named_parameters():
        if ".attn2." in name:
            parameter.mul_(4.0)
