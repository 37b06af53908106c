"""What the prompts of one (image, draw) pair share, computed once: for the accelerator benchmark.

Up to the first cross-attention a U-Net sees the noised image and the time only, so its output there
is the same for all prompts of a pair. The keys and values of the cross-attention depend on the
prompt only, so they can be computed once per run. Both hold for a U-Net whose time embedding is
free of the prompt; in a transformer with joint attention every layer depends on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.gpu_network import Inputs, Size


class Shared(nn.Module):
    """A module on the first of each `prompts` equal rows, its output repeated for all of them.

    Args:
        inner: module whose inputs are equal for all prompts of a pair.
        prompts: rows of a pair, one after the other.
    """

    def __init__(self, inner: nn.Module, prompts: int) -> None:
        super().__init__()
        self.inner, self.prompts = inner, prompts

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        few = [self._first(value) for value in inputs]
        out = self.inner(*few, **{name: self._first(value) for name, value in named.items()})
        return repeated(out, self.prompts)

    def _first(self, value: Any) -> Any:
        return value[:: self.prompts] if isinstance(value, Tensor) else value


def repeated(x: Tensor, times: int) -> Tensor:
    """Each row of x `times` times, in one copy that keeps channels last where they are."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return _repeated(x.permute(0, 2, 3, 1), times).permute(0, 3, 1, 2)
    return _repeated(x, times)


def _repeated(x: Tensor, times: int) -> Tensor:
    copies = x.unsqueeze(1).expand(len(x), times, *x.shape[1:])
    return copies.reshape(len(x) * times, *x.shape[1:])


class CachedProjection(nn.Module):
    """A projection of prompts that was computed before, by row of the batch.

    Args:
        projection: of the prompt's hidden states to keys, values or both.
        states: (P, tokens, width) hidden states of each prompt.
        rows: (B,) prompt of each row.
    """

    def __init__(self, projection: nn.Module, states: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", projection(states), persistent=False)
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        del states  # they are those of the table
        table: Tensor = self.table
        return table[self.rows]


def share_prefix(network: Any, prompts: int) -> Any:
    """The U-Net, changed to compute what precedes its first cross-attention once per pair.

    Args:
        network: diffusers' ``UNet2DConditionModel`` whose time embedding is free of the prompt.
        prompts: rows of a pair, one after the other.
    """
    for parent, name in _prefix(network):
        setattr(parent, name, Shared(getattr(parent, name), prompts))
    return network


def _prefix(network: Any) -> Iterator[tuple[nn.Module, str]]:
    """(parent, name) of each module before the first cross-attention, in order."""
    yield network, "conv_in"
    for block in network.down_blocks:
        if hasattr(block, "attentions"):
            yield block.resnets, "0"
            head = block.attentions[0]
            yield from ((head, name) for name in ("norm", "proj_in"))
            first = head.transformer_blocks[0]
            yield from ((first, name) for name in ("norm1", "attn1", "norm2"))
            yield first.attn2, "to_q"  # the queries still are the image's
            return
        yield from ((block.resnets, str(i)) for i in range(len(block.resnets)))
        for sampler in block.downsamplers or ():
            yield from ((sampler, name) for name in ("conv",))


def cache_prompts(network: Any, inputs: Inputs) -> Any:
    """The U-Net, changed to take keys and values of its prompts from a table.

    Args:
        network: diffusers' ``UNet2DConditionModel``; its projections may be fused.
        inputs: the batch; prompts and their places in it are fixed.
    """
    for attention in (m for m in network.modules() if getattr(m, "is_cross_attention", False)):
        for name in ("to_kv",) if hasattr(attention, "to_kv") else ("to_k", "to_v"):
            projection = getattr(attention, name)
            setattr(attention, name, CachedProjection(projection, inputs.states, inputs.rows))
    return network


def reason_against_prefix(size: Size) -> str:
    """Why a network has no prefix to share; empty if it has one."""
    if not size.is_unet:
        return "joint attention: every block depends on the prompt"
    if size.has_pooled_prompt:
        return "the pooled prompt enters the time embedding, so every residual block depends on it"
    return ""


def reason_against_cache(size: Size) -> str:
    """Why keys and values of prompts cannot be kept; empty if they can."""
    if not size.is_unet:
        return "joint attention: keys and values of the prompt depend on image and time"
    return ""
