"""Reference of PRX: ``diffusers.PRXPipeline.__call__``, of latents and of pixels."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from helpers.references.base import Reference, kl_images, kl_latents
from helpers.references.parts import (
    autoencoder_of_factor_8,
    deep_compression_autoencoder,
    gemma_tokenizer,
)
from torch import Tensor

TOKENS = 64


def text_encoder(vocabulary: int) -> Any:
    import diffusers.pipelines.prx as prx
    import transformers
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    # transformers may have replaced the module in which diffusers had set its class
    transformers.T5GemmaEncoder = prx.T5GemmaEncoder
    module = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "max_position_embeddings": 512,
    }
    encoder = T5GemmaEncoder(with_decoder(module).encoder)
    encoder.save_pretrained = partial(save_with_decoder, encoder)
    return encoder


def with_decoder(module: dict[str, Any]) -> Any:
    from transformers import T5GemmaConfig

    return T5GemmaConfig(encoder=dict(module), decoder=dict(module))


def save_with_decoder(encoder: Any, folder: Any, **options: Any) -> None:
    """Save with the config of encoder and decoder, of which diffusers reads the encoder's."""
    type(encoder).save_pretrained(encoder, folder, **options)
    with_decoder(encoder.config.to_dict()).save_pretrained(folder)


def pipeline(vae: Any, channels: int, patch_size: int = 2, **config: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, PRXPipeline, PRXTransformer2DModel

    tokenizer = gemma_tokenizer()
    tokenizer.model_max_length = TOKENS
    transformer = PRXTransformer2DModel(
        in_channels=channels,
        patch_size=patch_size,
        context_in_dim=32,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[8, 8],
        **config,
    )
    with torch.no_grad():
        for block in transformer.blocks:  # that prompts differ clearly
            block.attention.txt_kv_proj.weight.mul_(4)
    return PRXPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        vae=vae,
        default_sample_size=32,
    )


def latent() -> Any:
    return pipeline(autoencoder_of_factor_8(4, scaling_factor=0.36, shift_factor=0.12), 4)


def deep_compression() -> Any:
    return pipeline(deep_compression_autoencoder(scaling_factor=0.41), 4, resolution_embeds=True)


def pixels() -> Any:
    return pipeline(None, 3, patch_size=8, bottleneck_size=16)


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    text, mask, _, _ = pipe.encode_prompt(prompts, "cpu", do_classifier_free_guidance=False)
    return {"text": text, "mask": mask}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    return pipe.transformer(
        hidden_states=x_t,
        timestep=torch.tensor([t]).float() / pipe.scheduler.config.num_train_timesteps,
        encoder_hidden_states=cond["text"],
        attention_mask=cond["mask"],
        return_dict=False,
    )[0]


def latents(pipe: Any, x: Tensor) -> Tensor:
    if pipe.vae is None:
        return x
    if type(pipe.vae).__name__ == "AutoencoderKL":
        return kl_latents(pipe, x)
    return pipe.vae.encode(x).latent * pipe.vae.config.scaling_factor


def images(pipe: Any, x0: Tensor) -> Tensor:
    if pipe.vae is None:
        return x0
    if type(pipe.vae).__name__ == "AutoencoderKL":
        return kl_images(pipe, x0)
    return pipe.vae.decode(x0 / pipe.vae.config.scaling_factor, return_dict=False)[0]


REFERENCES = {
    name: Reference(
        "PRXPipeline", build, TOKENS, encoded, output, latents=latents, images=images, size=None
    )
    for name, build in (
        ("prx", latent),
        ("prx_deep_compression", deep_compression),
        ("prx_pixels", pixels),
    )
}
