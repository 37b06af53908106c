"""CogView4: each prompt alone, and the network's call without any mask."""

from __future__ import annotations

from typing import Any

import torch
from helpers.references.base import Reference
from helpers.references.parts import byte_symbols
from torch import Tensor


def glm_tokenizer() -> Any:
    """A byte-level tokenizer with two tokens before every text and padding on its left."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    specials = ["<|endoftext|>", "[gMASK]", "<sop>"]
    vocab = {symbol: i for i, symbol in enumerate([*byte_symbols(), *specials])}
    rules = Tokenizer(BPE(vocab=vocab, merges=[]))
    rules.pre_tokenizer, rules.decoder = ByteLevel(add_prefix_space=False), Decoder()
    rules.post_processor = TemplateProcessing(
        single="[gMASK] <sop> $A", special_tokens=[(name, vocab[name]) for name in specials[1:]]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=rules,
        pad_token=specials[0],
        eos_token=specials[0],
        padding_side="left",
        model_max_length=2048,
    )


def build() -> Any:
    from diffusers import (
        CogView4Pipeline,
        CogView4Transformer2DModel,
        FlowMatchEulerDiscreteScheduler,
    )
    from helpers.tiny_families import WIDTH, autoencoder
    from transformers import GlmConfig, GlmModel

    tokenizer = glm_tokenizer()
    return CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=GlmModel(
            GlmConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
                max_position_embeddings=2048,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        ),
        vae=autoencoder(4, scaling_factor=0.36),
        transformer=CogView4Transformer2DModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            text_embed_dim=WIDTH,
            time_embed_dim=16,
            condition_dim=8,
            rope_axes_dim=(16, 16),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear"
        ),
    )


def encoded(pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
    rows = [pipe.encode_prompt(p, do_classifier_free_guidance=False)[0][0] for p in prompts]
    masks = [torch.ones(len(row), dtype=torch.int32) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return {"text": pad(rows, batch_first=True), "mask": pad(masks, batch_first=True)}


def output(pipe: Any, x_t: Tensor, t: float, cond: dict[str, Tensor]) -> Tensor:
    sizes = torch.tensor([x_t.shape[2:]]) * float(pipe.vae_scale_factor)
    return pipe.transformer(
        hidden_states=x_t,
        encoder_hidden_states=cond["text"][cond["mask"].bool()][None],
        timestep=torch.tensor([t]),
        original_size=sizes,
        target_size=sizes,
        crop_coords=torch.zeros(1, 2),
        return_dict=False,
    )[0]


REFERENCES = {"cogview_4": Reference("CogView4Pipeline", build, 1024, encoded, output)}
