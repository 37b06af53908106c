"""Activations of a model in bytes: a linear rule, from configs and the shape of a batch.

The peak of a forward pass without gradients is taken to be a number of maps of the widest layer
that are alive together, and for U-Nets the skip connections besides. Attention scores are not
counted: torch's attention does not hold them in memory. The numbers of maps were measured on a CPU
(`docs/real-size.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffcls.models.part_sizes import PartSize

MAPS_WITH_ATTENTION = 26.0
"""Maps of h·w·C values alive in a level of a U-Net with attention: GEGLU's 16, residuals, norms."""
MAPS_WITHOUT_ATTENTION = 10.0
"""Maps of h·w·C values alive in a level of residual blocks alone."""
MAPS_OF_TRANSFORMER = 16.0
"""Maps of tokens × width alive in a block of a transformer: an MLP of 4, its gate, q, k and v."""
MAPS_OF_AUTOENCODER = 5.0
"""Maps of H·W·C values alive in the first level of the encoder, the widest in pixels."""
MAPS_OF_TEXT, MAPS_OF_TEXT_MLP = 6.0, 2.0
"""Maps of tokens × width alive in a text encoder, and of tokens × width of its MLP."""
BYTES_OF_FLOAT32 = 4


def network_bytes(part: PartSize, latent: int, text_tokens: int, itemsize: int) -> int:
    """Activations of the denoiser for one row of a batch.

    Args:
        part: the network.
        latent: side of the latents.
        text_tokens: tokens of all text encoders together.
        itemsize: bytes of a value.
    """
    config = part.config
    if config.get("block_out_channels"):
        return int(_of_unet(config, latent * latent) * itemsize)
    patch = _number(config, ("patch_size",), 1)
    image_tokens = (latent // patch) ** 2
    if part.class_name in PACKED:  # 2×2 latents are packed before the network
        image_tokens //= 4
    values = MAPS_OF_TRANSFORMER * (image_tokens + text_tokens) * _width(config)
    return int(values * itemsize)


PACKED = frozenset(
    {
        "FluxTransformer2DModel",
        "FluxControlNetModel",
        "ChromaTransformer2DModel",
        "QwenImageTransformer2DModel",
    }
)
"""Transformers that read latents in packed 2×2 patches, of which their config says nothing."""


def autoencoder_bytes(part: PartSize, side: int, rows: int, tile: int | None = None) -> int:
    """Activations of encoding `rows` images together, in single precision.

    Args:
        part: the autoencoder.
        side: side of the images in pixels.
        rows: images encoded together.
        tile: side of the tiles in pixels; None: images are encoded whole.
    """
    side = side if tile is None else min(side, tile)
    channels = part.config.get("block_out_channels") or part.config.get(
        "encoder_block_out_channels"
    )
    width = (
        channels[0] if isinstance(channels, Sequence) else _number(part.config, ("base_dim",), 128)
    )
    return int(MAPS_OF_AUTOENCODER * rows * side * side * width * BYTES_OF_FLOAT32)


def text_bytes(part: PartSize, prompts: int, itemsize: int) -> int:
    """Activations of encoding `prompts` prompts together."""
    config = _text_config(part.config)
    width = _number(config, ("hidden_size", "d_model"), 1)
    inner = _number(config, ("intermediate_size", "d_ff"), 4 * width)
    values = part.tokens * (MAPS_OF_TEXT * width + MAPS_OF_TEXT_MLP * inner)
    return int(prompts * values * itemsize)


def encoding_bytes(parts: Sequence[PartSize], itemsize: int) -> int:
    """Bytes of one encoded prompt: the tokens of all encoders at the widest one's width."""
    texts = [part for part in parts if part.role == "text"]
    widths = [_number(_text_config(p.config), ("hidden_size", "d_model"), 1) for p in texts]
    return sum(part.tokens for part in texts) * max(widths, default=0) * itemsize


def _of_unet(config: Mapping[str, Any], area: int) -> float:
    """Values alive at the peak: skip connections of all levels, and the maps of one level."""
    channels = [int(c) for c in config["block_out_channels"]]
    layers = config.get("layers_per_block", 2)
    per_level = layers if isinstance(layers, list) else [layers] * len(channels)
    skips = sum(
        (int(n) + 1) * c * area / 4**level
        for level, (n, c) in enumerate(zip(per_level, channels, strict=True))
    )
    blocks = config.get("down_block_types") or []
    maps = [MAPS_WITH_ATTENTION if "Attn" in str(b) else MAPS_WITHOUT_ATTENTION for b in blocks]
    maps += [MAPS_WITH_ATTENTION] * (len(channels) - len(maps))
    widest = max(
        n * c * area / 4**level for level, (n, c) in enumerate(zip(maps, channels, strict=False))
    )
    return skips + widest


def _width(config: Mapping[str, Any]) -> int:
    """Width of a transformer's tokens, under the names that its families give it."""
    heads = _number(config, ("num_attention_heads", "n_heads"), 1)
    product = heads * _number(config, ("attention_head_dim",), 1)
    return _number(config, ("dim", "hidden_size", "inner_dim"), product)


def _number(config: Mapping[str, Any], names: Sequence[str], default: int) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        if isinstance(value, list) and value and isinstance(value[0], int):  # one a level, one size
            return max(value)
    return default


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config
