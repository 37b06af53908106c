"""Networks of the accelerator benchmark, at their real size with random weights, and their inputs.

The configs are those that diffusers stores with each published model; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

PROMPTS = 37
"""Classes of Oxford-IIIT Pets, the candidates of each image."""


@dataclass(frozen=True)
class Size:
    """A network of a published model's size.

    Args:
        name: the model whose size it has.
        kind: class of diffusers.
        config: arguments of that class; all others have their defaults.
        tokens: length of an encoded prompt.
        batch: rows of a forward pass.
        pairs: (image, draw) pairs among them, each with the same prompts.
        compile_seconds: rough time that compilation takes on an H100.
        whole: whether the whole network is compiled, and not each repeated block.
        backend: torch's compiler; in miniature one that needs no C++ compiler and little time.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    tokens: int
    batch: int
    pairs: int = 2
    compile_seconds: float = 60.0
    whole: bool = False
    backend: str = "inductor"

    @property
    def prompts(self) -> int:
        """Prompts of each (image, draw) pair."""
        return self.batch // self.pairs

    @property
    def is_unet(self) -> bool:
        """Whether it is a U-Net, with convolutions and cross-attention."""
        return self.kind == "UNet2DConditionModel"

    @property
    def has_pooled_prompt(self) -> bool:
        """Whether a vector of the prompt enters every block beside the time."""
        return not self.is_unet or "addition_embed_type" in self.config


DOWN, CROSS_DOWN, UP, CROSS_UP = (
    "DownBlock2D",
    "CrossAttnDownBlock2D",
    "UpBlock2D",
    "CrossAttnUpBlock2D",
)
SD_2 = Size(
    "SD-2-base",
    "UNet2DConditionModel",
    {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    tokens=77,
    batch=32,
    compile_seconds=90.0,
    whole=True,
)
SDXL = Size(
    "SDXL",
    "UNet2DConditionModel",
    {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN),
        "up_block_types": (CROSS_UP, CROSS_UP, UP),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    tokens=77,
    batch=16,
)
SD_35 = Size(
    "SD-3.5-medium",
    "SD3Transformer2DModel",
    {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 24,
        "attention_head_dim": 64,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 384,
        "dual_attention_layers": tuple(range(13)),
        "qk_norm": "rms_norm",
    },
    tokens=77 + 256,
    batch=8,
)
SIZES = (SD_2, SDXL, SD_35)

_TINY_UNET = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "down_block_types": (CROSS_DOWN, DOWN),
    "up_block_types": (UP, CROSS_UP),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": (2, 4),
    "norm_num_groups": 8,
}
_TINY: Mapping[str, Mapping[str, Any]] = {
    "SD-2-base": _TINY_UNET,
    "SDXL": {
        **_TINY_UNET,
        "down_block_types": (DOWN, CROSS_DOWN),
        "up_block_types": (CROSS_UP, UP),
        "transformer_layers_per_block": (1, 2),
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
    },
    "SD-3.5-medium": {
        "sample_size": 8,
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 48,
        "caption_projection_dim": 32,
        "pooled_projection_dim": 24,
        "pos_embed_max_size": 16,
        "dual_attention_layers": (0,),
    },
}


def tiny(size: Size) -> Size:
    """A small network of the same class and structure, for a trial on a CPU."""
    return replace(
        size,
        name=f"{size.name}, tiny",
        config={**size.config, **_TINY[size.name]},
        tokens=20,
        batch=8,
        compile_seconds=0.0,
        whole=False,
        backend="aot_eager",
    )


def build(size: Size, device: str) -> Any:
    """The network on a device, with random weights in single precision, ready for inference.

    Args:
        size: see `Size`.
        device: torch's name of the device; ``meta`` for a network without values.
    """
    import diffusers
    import torch

    torch.manual_seed(0)
    with torch.device(device):  # two to three billion weights are drawn on the device itself
        network = getattr(diffusers, size.kind)(**size.config)
    return network.to(device).eval().requires_grad_(False)


@dataclass(frozen=True)
class Inputs:
    """A batch as the scorer makes it: `pairs` (image, draw) pairs, each with the same prompts.

    Args:
        arguments: keyword arguments of the network.
        states: (prompts, tokens, width) of each prompt once, as ``encoder_hidden_states`` has them.
        rows: (B,) prompt of each row.
    """

    arguments: Mapping[str, Any]
    states: Any
    rows: Any

    def cast(self, dtype: Any) -> Inputs:
        """The same in another precision; the time stays as it is."""
        return replace(self, arguments=_cast(self.arguments, dtype), states=self.states.to(dtype))


def inputs_of(size: Size, device: str, batch: int | None = None) -> Inputs:
    """Random inputs in single precision; the same on every device.

    Args:
        size: see `Size`.
        device: torch's name of the device, or ``meta``.
        batch: rows; None: those of the size.
    """
    import torch

    batch = batch or size.batch
    config, prompts = size.config, batch // size.pairs
    g = torch.Generator("cpu").manual_seed(0)
    side, channels = config["sample_size"], config.get("in_channels", 4)

    def random(*shape: int) -> Any:
        return torch.randn(*shape, generator=g).to(device)

    pair = torch.arange(batch, device=device) // prompts  # row -> (image, draw)
    rows = torch.arange(batch, device=device) % prompts  # row -> prompt
    x_t, timestep = random(size.pairs, channels, side, side), (pair * 370 + 130) % 1000
    width = config.get("cross_attention_dim") or config["joint_attention_dim"]
    states = random(prompts, size.tokens, width)
    arguments = {"timestep": timestep, "encoder_hidden_states": states[rows]}
    if not size.is_unet:
        pooled = random(prompts, config["pooled_projection_dim"])[rows]
        arguments |= {"hidden_states": x_t[pair], "pooled_projections": pooled}
        return Inputs(arguments, states, rows)
    arguments["sample"] = x_t[pair]
    if size.has_pooled_prompt:
        total, each = (
            config[f"{name}"]
            for name in ("projection_class_embeddings_input_dim", "addition_time_embed_dim")
        )
        sizes = torch.tensor([8.0 * side, 8.0 * side, 0, 0, 8.0 * side, 8.0 * side], device=device)
        arguments["added_cond_kwargs"] = {
            "text_embeds": random(prompts, total - 6 * each)[rows],
            "time_ids": sizes.expand(batch, 6).contiguous(),
        }
    return Inputs(arguments, states, rows)


def _cast(arguments: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    return {
        name: _cast(value, dtype)
        if isinstance(value, Mapping)
        else value.to(dtype)
        if value.is_floating_point()
        else value
        for name, value in arguments.items()
    }


def forward(network: Any, inputs: Inputs) -> Any:
    """The network's output for a batch, (B, C, h, w)."""
    return network(**inputs.arguments, return_dict=False)[0]
