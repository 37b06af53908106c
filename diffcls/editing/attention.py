"""Attention of a U-Net under control: its probabilities can be read and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from diffcls.support.errors import ModelError

Change = Callable[[Tensor, bool], Tensor]
"""(probabilities (B, heads, N, S), whether it is cross-attention) -> what is used instead; N
positions of the image, S tokens of the prompt, or positions again."""


def check_network(network: Any, name: str) -> None:
    """Raise ModelError unless a network is a U-Net whose prompts enter by cross-attention.

    Args:
        network: network of a denoiser.
        name: name of the model.
    """
    from diffusers import UNet2DConditionModel

    if not isinstance(network, UNet2DConditionModel):
        raise ModelError(
            "prompts edit models with cross-attention",
            given=f"{name}, whose network is a {type(network).__name__}",
            allowed="a U-Net of Stable Diffusion 1, 2 or XL, or a bundled model of images and text",
        )


@contextmanager
def controlled(network: nn.Module, change: Change) -> Iterator[None]:
    """Context in which all attention of a U-Net passes through `change`.

    Args:
        network: one that `check_network` accepts.
        change: see `Change`.
    """
    from diffusers.models.attention_processor import Attention, AttnProcessor

    layers = {
        name: module for name, module in network.named_modules() if isinstance(module, Attention)
    }
    before = {name: layer.processor for name, layer in layers.items()}
    try:
        for layer in layers.values():
            layer.set_processor(AttnProcessor())  # the one that computes probabilities
            layer.get_attention_scores = partial(_changed, layer, change)
        yield
    finally:
        for name, layer in layers.items():
            vars(layer).pop("get_attention_scores", None)
            layer.set_processor(before[name])


def _changed(
    layer: Any, change: Change, query: Tensor, key: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Attention probabilities of a layer, (B·heads, N, S), after the change."""
    probabilities = type(layer).get_attention_scores(layer, query, key, mask)
    # (B·heads, N, S) -> (B, heads, N, S)
    by_head = probabilities.reshape(-1, layer.heads, *probabilities.shape[1:])
    return change(by_head, layer.is_cross_attention).reshape_as(probabilities)
