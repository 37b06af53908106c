"""Reference of HunyuanDiT: ``diffusers.HunyuanDiTPipeline.__call__``, without guidance."""

from __future__ import annotations

from typing import Any

import torch
from helpers.references.base import Reference
from helpers.references.parts import autoencoder_of_factor_8
from torch import Tensor

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-"


def bert_tokenizer() -> Any:
    from helpers.tiny_families import PROMPT_WORDS
    from transformers import BertTokenizer

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*specials, *LETTERS, *(f"##{c}" for c in LETTERS), *PROMPT_WORDS.split()]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return BertTokenizer(vocab=vocab, model_max_length=77)


def build() -> Any:
    from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
    from helpers.tiny_families import WIDTH, t5_encoder, t5_tokenizer
    from transformers import BertConfig, BertModel

    tokenizer = bert_tokenizer()
    transformer = HunyuanDiT2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        patch_size=2,
        sample_size=4,
        hidden_size=16,
        num_layers=4,
        cross_attention_dim=24,
        cross_attention_dim_t5=WIDTH,
        pooled_projection_dim=16,
    )
    with torch.no_grad():
        for block in transformer.blocks:  # `tiny_families.save` raises them by 4: logits by 16
            block.attn2.norm_q.weight.div_(4)
            block.attn2.norm_k.weight.div_(4)
    return HunyuanDiTPipeline(
        vae=autoencoder_of_factor_8(scaling_factor=0.13),
        text_encoder=BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=48,
                max_position_embeddings=77,
            )
        ),
        tokenizer=tokenizer,
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
        scheduler=DDPMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.03,
            prediction_type="v_prediction",
            steps_offset=1,
            clip_sample=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    options = {"do_classifier_free_guidance": False}
    bert = pipe.encode_prompt(prompts, max_sequence_length=77, text_encoder_index=0, **options)
    t5 = pipe.encode_prompt(prompts, max_sequence_length=256, text_encoder_index=1, **options)
    return {"text": bert[0], "mask": bert[2], "text_t5": t5[0], "mask_t5": t5[2]}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    from diffusers.models.embeddings import get_2d_rotary_pos_embed
    from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid

    network = pipe.transformer
    height, width = x_t.shape[2] * 8, x_t.shape[3] * 8
    patch = network.config.patch_size
    grid = (height // 8 // patch, width // 8 // patch)
    rotary = get_2d_rotary_pos_embed(
        network.inner_dim // network.num_heads,
        get_resize_crop_region_for_grid(grid, 512 // 8 // patch),
        grid,
        output_type="pt",
    )
    out = network(
        x_t,
        torch.tensor([t], dtype=x_t.dtype),
        encoder_hidden_states=cond["text"],
        text_embedding_mask=cond["mask"],
        encoder_hidden_states_t5=cond["text_t5"],
        text_embedding_mask_t5=cond["mask_t5"],
        image_meta_size=torch.tensor([[1024.0, 1024.0, height, width, 0.0, 0.0]]),
        style=torch.tensor([0]),
        image_rotary_emb=rotary,
        return_dict=False,
    )[0]
    return out.chunk(2, dim=1)[0]


REFERENCES = {
    "hunyuan_dit": Reference(
        "HunyuanDiTPipeline",
        build,
        tokens=256,
        encoded=encoded,
        output=output,
        predicts="v_prediction",
    )
}
