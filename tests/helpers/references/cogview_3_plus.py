"""CogView3-Plus: the pipeline's own text and network call; its scheduler divides the SNR."""

from __future__ import annotations

from typing import Any

import torch
from helpers.references.base import Reference
from torch import Tensor


def build() -> Any:
    from diffusers import (
        CogVideoXDDIMScheduler,
        CogView3PlusPipeline,
        CogView3PlusTransformer2DModel,
    )
    from helpers.tiny_families import WIDTH, autoencoder, t5_encoder, t5_tokenizer

    transformer = CogView3PlusTransformer2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        text_embed_dim=WIDTH,
        time_embed_dim=16,
        condition_dim=8,
        pos_embed_max_size=16,
    )
    with torch.no_grad():  # random weights as they are hardly depend on the text
        for name, parameter in transformer.named_parameters():
            if parameter.ndim > 1 and "transformer_blocks" in name:
                parameter.mul_(3)
    return CogView3PlusPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=autoencoder(4, scaling_factor=0.36),
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=4.0
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    return {"text": pipe.encode_prompt(prompts, do_classifier_free_guidance=False)[0]}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    sizes = torch.tensor([x_t.shape[2:]]) * float(pipe.vae_scale_factor)
    return pipe.transformer(
        hidden_states=x_t,
        encoder_hidden_states=cond["text"],
        timestep=torch.tensor([t]),
        original_size=sizes,
        target_size=sizes,
        crop_coords=torch.zeros(1, 2),
        return_dict=False,
    )[0]


REFERENCES = {
    "cogview_3_plus": Reference(
        "CogView3PlusPipeline", build, 224, encoded, output, predicts="v_prediction"
    )
}
