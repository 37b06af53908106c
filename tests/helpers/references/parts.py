"""Parts of tiny pipelines that several families share: tokenizers and autoencoders."""

from __future__ import annotations

from typing import Any


def byte_symbols() -> list[str]:
    """The 256 printable symbols by which byte-level tokenizers write bytes (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]


def qwen_tokenizer() -> Any:
    """A byte-level tokenizer of Qwen's class, with a chat template as short as can be."""
    from transformers import Qwen2Tokenizer

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {symbol: i for i, symbol in enumerate([*byte_symbols(), *specials])}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": specials[1:]})
    tokenizer.pad_token = specials[0]
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
        "{% endif %}"
    )
    return tokenizer


def gemma_tokenizer() -> Any:
    """A tokenizer of Gemma's class that falls back to bytes."""
    from transformers import GemmaTokenizer

    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    letters = [chr(c) for c in range(33, 127)] + ["▁"]
    pieces = [*specials, *(f"<0x{b:02X}>" for b in range(256)), *letters]
    tokenizer = GemmaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    tokenizer.model_max_length = 512
    return tokenizer


def autoencoder_of_factor_8(channels: int = 4, **config: Any) -> Any:
    """An ``AutoencoderKL`` of four blocks: some pipelines assume 8 pixels per latent value."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        **config,
    )


# ---- Gemma and the autoencoder of Sana ----------------------------------------------------------


def gemma_encoder(vocabulary: int, width: int = 32) -> Any:
    """A ``Gemma2Model`` of two layers."""
    from transformers import Gemma2Config, Gemma2Model

    return Gemma2Model(
        Gemma2Config(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            query_pre_attn_scalar=16,
            max_position_embeddings=2048,
        )
    )


def deep_compression_autoencoder(channels: int = 4, **config: Any) -> Any:
    """An ``AutoencoderDC`` of factor 4."""
    from diffusers import AutoencoderDC

    return AutoencoderDC(
        latent_channels=channels,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        **config,
    )


def qwen3_encoder(vocabulary: int, width: int) -> Any:
    """A text encoder of Qwen3's class, of two layers."""
    from transformers import Qwen3Config, Qwen3Model

    return Qwen3Model(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
        )
    )
