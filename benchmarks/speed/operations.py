"""Operations of a U-Net's evaluation, and the parts that no prompt or no image affects.

Counted by torch on the meta device, which computes nothing; attention included.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.speed.gpu_network import SD_2, build

PREFIX = re.compile(
    # time embedding and first convolution, then the first block: all of it where it has no
    # attention, else up to the queries of its first cross-attention
    r"time_embedding|conv_in|FIRST\.resnets\.0|FIRST\.attentions\.0\.proj_in|"
    r"FIRST\.attentions\.0\.transformer_blocks\.0\.(attn1|attn2\.to_q)"
)
KEYS_AND_VALUES = re.compile(r".*\.attn2\.to_[kv]")
BUNDLED = ("digits", "scenes")


def operations() -> list[dict[str, Any]]:
    """A row for each bundled size of network, and for one of Stable Diffusion 2-base's size."""
    from diffcls.models import loading

    rows = [_row("Stable Diffusion 2-base", build(SD_2, "meta"), SD_2.tokens)]
    for name in BUNDLED:
        denoiser: Any = loading.load(name)
        tokens = denoiser.encode_prompts([""])["text"].shape[1]
        rows.append(_row(name, denoiser.network.to("meta"), tokens))
    return rows


def _row(name: str, unet: Any, tokens: int) -> dict[str, Any]:
    counts = count(unet, tokens)
    total = counts[""]
    return {
        "part": "operations",
        "subject": name,
        "measure": "one evaluation",
        "gflop": total / 1e9,
        "prefix": sum(counts[part] for part in prefix(unet)) / total,
        "keys_and_values": sum(
            flops for part, flops in counts.items() if KEYS_AND_VALUES.fullmatch(part)
        )
        / total,
    }


def count(unet: Any, tokens: int) -> dict[str, int]:
    """Floating-point operations of one evaluation in each module, by its name, "" for all.

    Args:
        unet: a ``UNet2DConditionModel`` on the meta device.
        tokens: length of a prompt.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    side, width = unet.config.sample_size, unet.config.cross_attention_dim
    x_t = torch.empty(1, unet.config.in_channels, side, side, device="meta")
    text = torch.empty(1, tokens, width, device="meta")
    timestep = torch.empty(1, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(x_t, timestep, encoder_hidden_states=text)
    counts = counter.get_flop_counts()
    of_network = type(unet).__name__
    return {"": sum(counts["Global"].values())} | {
        name.removeprefix(f"{of_network}."): sum(flops.values())
        for name, flops in counts.items()
        if name.startswith(f"{of_network}.")
    }


def prefix(unet: Any) -> list[str]:
    """Names of the modules with operations before the first cross-attention, none in another."""
    whole: list[str] = []
    for number, block in enumerate(unet.down_blocks):
        name = f"down_blocks.{number}"
        if hasattr(block, "attentions"):
            pattern = re.compile(PREFIX.pattern.replace("FIRST", re.escape(name)))
            return whole + [name for name, _ in unet.named_modules() if pattern.fullmatch(name)]
        whole.append(name)
    return whole
