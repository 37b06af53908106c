"""Precision of a loaded network: single for a while, and its own again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from diffcls.models.residence import is_quantised


def is_convertible(network: Any) -> bool:
    """Whether a network can compute in single precision: not if a library keeps it in few bits.

    The layers of a GGUF file are quantised, too, but compute in any precision.
    """
    return not is_quantised(network) or bool(_layers_of_blocks(network))


@contextmanager
def in_float32(
    network: Any, dtype: torch.dtype, whole: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """Context in which a network's weights are in single precision.

    Args:
        network: one that `is_convertible`.
        dtype: the precision that it computes in otherwise.
        whole: context in which all of its weights are there, wherever they are kept.
    """
    layers = _layers_of_blocks(network)
    with whole():
        dtypes = [tensor.dtype for tensor in _weights(network)]  # some may be in float32 already
    try:
        with whole():  # memory may not suffice: then all of them get their own precision again
            for tensor in _weights(network):
                tensor.data = tensor.data.float()
        for layer in layers:
            layer.compute_dtype = torch.float32
        yield
    finally:
        with whole():
            for tensor, own in zip(_weights(network), dtypes, strict=True):
                tensor.data = tensor.data.to(own)
        for layer in layers:
            layer.compute_dtype = dtype


def repeated(model: Any) -> Callable[[], AbstractContextManager[None]] | None:
    """`single_precision` of a model in half precision; None of one in single precision."""
    if model.dtype in (None, torch.float32):
        return None
    return lambda: single_precision(model)


@contextmanager
def single_precision(model: Any) -> Iterator[None]:
    """Context in which a loaded model with fields ``model`` and ``dtype`` is in single precision.

    Args:
        model: a CLIP model or a backbone; its network lies on one device.
    """
    own = model.dtype or torch.float32
    try:
        with in_float32(model.model, own, nullcontext):
            model.dtype = torch.float32
            yield
    finally:
        model.dtype = own


def _layers_of_blocks(network: Any) -> list[Any]:
    """Layers whose weights are blocks of a GGUF file."""
    modules = network.modules()
    return [m for m in modules if hasattr(getattr(m, "weight", None), "quant_type")]


def _weights(network: Any) -> list[Tensor]:
    """Weights and buffers in floating point."""
    stored = [*network.parameters(), *network.buffers()]
    return [tensor for tensor in stored if tensor.is_floating_point()]
