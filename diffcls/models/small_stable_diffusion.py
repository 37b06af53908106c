"""Small Stable Diffusion: text encoder, autoencoder, U-Net and scheduler of reduced size.

What is built here is an ordinary `diffusers.StableDiffusionPipeline`, only small enough to be
trained from nothing on a CPU; it is saved, loaded and sampled by diffusers itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.models.schedulers import scheduler_of

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
UNMASKED_ATTENTION = "eager"
"""Attention of transformers that follows `is_causal`; its fused one masks in any case."""


@dataclass(frozen=True)
class TinyConfig:
    """Architecture of a small latent text-to-image model.

    Args:
        image_size: side of the images, in pixels.
        latent_channels: C of the latents (C, image_size/4, image_size/4).
        vae_channels: width of the autoencoder at its three resolutions; the factor is 4.
        unet_channels: width of the U-Net at its resolutions, each half the previous one; all but
            the first have cross-attention.
        unet_layers: residual blocks a resolution.
        text_width, text_layers: width and number of layers of the text encoder.
        text_causal: whether a token sees only earlier ones, as in CLIP, or the whole prompt.
        max_tokens: length that prompts are padded to, start and end tokens included.
        vocabulary: size of the tokenizer's vocabulary at most, 512 byte symbols included.
        prediction_type: "epsilon", "v_prediction" or "sample".
    """

    image_size: int = 32
    latent_channels: int = 4
    vae_channels: tuple[int, int, int] = (16, 32, 32)
    unet_channels: tuple[int, ...] = (48, 96)
    unet_layers: int = 1
    text_width: int = 96
    text_layers: int = 2
    text_causal: bool = True
    max_tokens: int = 24
    vocabulary: int = 900
    prediction_type: str = "v_prediction"


def build_tokenizer(captions: Iterable[str], config: TinyConfig) -> CLIPTokenizer:
    """A CLIP tokenizer whose merges are learned from `captions`; any text has a tokenization."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    byte_symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = byte_symbols + [symbol + "</w>" for symbol in byte_symbols]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary - 2,
        # the trainer breaks ties by token number, and numbers all other tokens at random
        special_tokens=symbols,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    learned = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    merges = learned[: config.vocabulary - 2 - len(symbols)]
    tokens = [*symbols, *("".join(pair) for pair in merges), BOS, EOS]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocab, merges=merges, pad_token=EOS, model_max_length=config.max_tokens
    )


def build_pipeline(config: TinyConfig, captions: Iterable[str]) -> StableDiffusionPipeline:
    """An untrained pipeline; its weights depend on torch's global seed."""
    from diffusers import StableDiffusionPipeline

    tokenizer = build_tokenizer(captions, config)
    return StableDiffusionPipeline(
        vae=_vae(config),
        text_encoder=_text_encoder(config, tokenizer),
        tokenizer=tokenizer,
        unet=_unet(config),
        scheduler=scheduler_of(
            num_train_timesteps=1000,
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            steps_offset=1,
            prediction_type=config.prediction_type,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _vae(config: TinyConfig) -> Any:
    from diffusers import AutoencoderKL

    levels = len(config.vae_channels)
    return AutoencoderKL(
        block_out_channels=config.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=8,
        sample_size=config.image_size,
        scaling_factor=1.0,
    )


def _unet(config: TinyConfig) -> Any:
    from diffusers import UNet2DConditionModel

    deeper = len(config.unet_channels) - 1
    return UNet2DConditionModel(
        sample_size=config.image_size // 4,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.unet_channels,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * deeper),
        up_block_types=(*["CrossAttnUpBlock2D"] * deeper, "UpBlock2D"),
        cross_attention_dim=config.text_width,
        norm_num_groups=8,
        attention_head_dim=16,
        layers_per_block=config.unet_layers,
    )


def _text_encoder(config: TinyConfig, tokenizer: CLIPTokenizer) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=4,
            max_position_embeddings=config.max_tokens,
            projection_dim=config.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    if not config.text_causal:
        encoder.config.is_causal = False
        encoder.set_attn_implementation(UNMASKED_ATTENTION)
    return encoder


def save_half(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline as fp16 safetensors that plain diffusers loads as float32.

    transformers keeps a file's dtype where the config names none, diffusers does not: so the text
    encoder's config is made to say float32, else a pipeline loaded without a dtype comes back mixed
    and fails at its first product.
    """
    import copy

    import torch

    parts = dict(pipeline.components)
    for name, module in parts.items():
        if isinstance(module, torch.nn.Module):
            parts[name] = copy.deepcopy(module)
            for parameter in parts[name].parameters():
                parameter.data = parameter.data.half()
    for place in ("is_local", "local_files_only"):  # how it was opened is not part of it
        parts["tokenizer"].init_kwargs.pop(place, None)
    tokenizer = parts["tokenizer"].backend_tokenizer
    tokenizer.no_padding()  # set by the last call, and not part of the model
    tokenizer.no_truncation()
    halved = type(pipeline)(**parts, requires_safety_checker=False)
    halved.save_pretrained(folder, safe_serialization=True)
    for config in folder.glob("*/config.json"):  # where a fine-tuned part was loaded from
        content = json.loads(config.read_text(encoding="utf-8"))
        if content.pop("_name_or_path", None) is not None:
            config.write_text(
                json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8"
            )
    path = folder / "text_encoder" / "config.json"
    text_config = json.loads(path.read_text(encoding="utf-8"))
    text_config.pop("torch_dtype", None)
    text_config["dtype"] = "float32"
    if not text_config.get("is_causal", True):  # transformers does not store its attention
        text_config["attn_implementation"] = UNMASKED_ATTENTION
    path.write_text(json.dumps(text_config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
