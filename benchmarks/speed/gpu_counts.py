"""Counts of the accelerator benchmark: operations, weights and memory of its networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.speed.gpu_network import Inputs, Size, build, forward, inputs_of


def flops_of(size: Size, change: Any = None) -> float:
    """Floating-point operations of one evaluation, counted without computing anything.

    Args:
        size: see `Size`.
        change: (network, inputs) -> the network to count instead; None: the plain one.
    """
    import torch

    network, inputs = build(size, "meta"), inputs_of(size, "meta")
    if change is not None:
        with torch.inference_mode():
            network = change(network, inputs)
    return count_flops(network, inputs) / size.batch


def count_flops(network: Any, inputs: Inputs) -> float:
    """Floating-point operations of one forward pass, counted by torch; a product and a sum are two.

    Element-wise operations are left out.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # torch does not count every fused kernel of attention
    plain, counter = sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False)
    with torch.inference_mode(), plain, counter:
        forward(network, inputs)
    return float(counter.get_total_flops())


def parameters_of(size: Size) -> int:
    """Number of weights of the network."""
    return sum(weight.numel() for weight in build(size, "meta").parameters())


def weights_gib(network: Any) -> float:
    """Memory of weights and buffers in GiB."""

    def tensors() -> Iterator[Any]:
        yield from network.parameters()
        yield from network.buffers()

    return float(sum(t.numel() * t.element_size() for t in tensors())) / 2**30
