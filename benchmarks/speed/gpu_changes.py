"""Changes to a network in the accelerator benchmark, each measured on top of those kept before."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.speed import gpu_sharing
from benchmarks.speed.gpu_counts import count_flops, weights_gib
from benchmarks.speed.gpu_network import Inputs, Size, build, forward, inputs_of
from benchmarks.speed.gpu_plan import Row
from benchmarks.speed.gpu_timing import extra_memory, free_memory, seconds_per_call

LARGEST_ERROR = 0.1
"""Error of a change, relative to the largest value of the output, above which it is not kept."""


@dataclass(frozen=True)
class Variant:
    """A network with the changes so far.

    Args:
        network: the network.
        inputs: its batch.
        fused_attention: whether torch chooses a fused kernel for attention; else the plain one.
        replay: forward pass that was recorded as a CUDA graph; None: none was.
    """

    network: Any
    inputs: Inputs
    fused_attention: bool = False
    replay: Callable[[], Any] | None = None

    def __call__(self) -> Any:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        if self.replay is not None:
            return self.replay()
        with nullcontext() if self.fused_attention else sdpa_kernel(SDPBackend.MATH):
            return forward(self.network, self.inputs)

    def copied(self) -> Variant:
        """The same with a network of its own."""
        return replace(self, network=copy.deepcopy(self.network))


@dataclass(frozen=True)
class Change:
    """A change to a network.

    Args:
        name: name of the measurement.
        apply: (variant, size) -> the changed variant; the network may be changed in place.
        reason: (size, device) -> why the change does not apply; empty if it does.
        is_final: whether the network cannot be changed further.
        compiles: whether it takes the time of a compilation.
    """

    name: str
    apply: Callable[[Variant, Size], Variant]
    reason: Callable[[Size, str], str] = lambda size, device: ""
    is_final: bool = False
    compiles: bool = False


def _half(variant: Variant, size: Size) -> Variant:
    import torch

    network = torch.nn.Module.to(variant.network, torch.bfloat16)  # diffusers' own `to` warns
    return replace(variant, network=network, inputs=variant.inputs.cast(torch.bfloat16))


def _channels_last(variant: Variant, size: Size) -> Variant:
    import torch

    return replace(variant, network=variant.network.to(memory_format=torch.channels_last))


def _fused_attention(variant: Variant, size: Size) -> Variant:
    return replace(variant, fused_attention=True)


def _fused_projections(variant: Variant, size: Size) -> Variant:
    variant.network.fuse_qkv_projections()
    return variant


def _shared_prefix(variant: Variant, size: Size) -> Variant:
    gpu_sharing.share_prefix(variant.network, size.prompts)
    return variant


def _cached_prompts(variant: Variant, size: Size) -> Variant:
    gpu_sharing.cache_prompts(variant.network, variant.inputs)
    return variant


def _compiled(variant: Variant, size: Size) -> Variant:
    # static shapes: all forward passes of a run have one
    if size.whole:
        variant.network.compile(fullgraph=True, dynamic=False, backend=size.backend)
        return variant
    for module in variant.network.modules():
        if type(module).__name__ in ("BasicTransformerBlock", "JointTransformerBlock"):
            module.compile(fullgraph=True, dynamic=False, backend=size.backend)
    return variant


def _graph(variant: Variant, size: Size) -> Variant:
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(2):  # recording allows no first call, which allocates
            variant()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        out = variant()

    def replay() -> Any:
        graph.replay()
        return out

    return replace(variant, replay=replay)


BASELINE = "float32, plain attention"
CHANGES = (
    Change("bfloat16", _half),
    Change(
        "channels last",
        _channels_last,
        lambda size, _: "" if size.is_unet else "a transformer has no convolutions",
    ),
    Change("fused attention kernel", _fused_attention),
    Change(
        "fused query, key and value projection",
        _fused_projections,
        lambda size, _: "" if size.is_unet else "diffusers fuses none in dual attention layers",
    ),
    Change("shared prefix", _shared_prefix, lambda s, _: gpu_sharing.reason_against_prefix(s)),
    Change(
        "cached keys and values of prompts",
        _cached_prompts,
        lambda s, _: gpu_sharing.reason_against_cache(s),
    ),
    Change("compiled, static shapes", _compiled, is_final=True, compiles=True),
    Change(
        "CUDA graph",
        _graph,
        lambda _, device: "" if device.startswith("cuda") else f"{device} has no CUDA graphs",
        is_final=True,
    ),
)


class NetworkBench:
    """Measurements of one network: each change on top of those that made it faster.

    Args:
        size: see `Size`.
        device: torch's name of the device.
        seconds: duration of each timing.
    """

    def __init__(self, size: Size, device: str, seconds: float) -> None:
        self.size, self.device, self.seconds = size, device, seconds
        self.best = Variant(build(size, device), inputs_of(size, device))
        few = inputs_of(size, device, size.pairs)
        self.flops = count_flops(self.best.network, few) / size.pairs
        self.rate, self.is_final = 0.0, False
        self._exact: Any = None

    def baseline(self) -> Iterator[Row]:
        """The row of the network without any change."""
        row, self._exact = self._row(self.best, self.size.batch)
        self.rate = row["evaluations_per_second"]
        yield {**row, "kept": "True", "largest_difference": 0.0}

    def change(self, change: Change) -> Iterator[Row]:
        """The row of a change; it stays if it is faster and its answers are the same."""
        reason = change.reason(self.size, self.device)
        if reason:
            yield {"note": reason}
            return
        import torch

        free_memory(self.device)
        with torch.no_grad(), _many_compilations():
            # a compiled network cannot be copied, and nothing is tried after it but recording
            start = self.best if self.is_final else self.best.copied()
            row = self._measured(change.apply(start, self.size), change.is_final)
        yield row

    def larger_batch(self, batch: int) -> Iterator[Row]:
        """The row of another batch size, without what is fixed to the batch or compiled."""
        import torch

        free_memory(self.device)
        variant = Variant(build(self.size, self.device), self.best.inputs, fused_attention=True)
        variant = _channels_last(_half(variant, self.size), self.size)
        inputs = inputs_of(self.size, self.device, batch).cast(torch.bfloat16)
        yield self._row(replace(variant, inputs=inputs), batch)[0]

    def _measured(self, variant: Variant, is_final: bool) -> Row:
        """The row of a changed network, which becomes the best one if it is faster."""
        row, out = self._row(variant, self.size.batch)
        exact = out if self._exact is None else self._exact  # None if the baseline failed
        error = float((out - exact).abs().max())
        if self._exact is not None:
            row["largest_difference"] = error
        rate = row["evaluations_per_second"]
        is_same = error <= LARGEST_ERROR * float(exact.abs().max())
        is_kept = rate > self.rate and is_same
        gain = rate / self.rate if self.rate else None
        note = "" if is_same else "not kept: other answers"
        if is_kept:
            self.best, self.rate, self.is_final = variant, rate, is_final
        return {**row, "gain": gain, "kept": str(is_kept), "note": note}

    def _row(self, variant: Variant, batch: int) -> tuple[Row, Any]:
        """The row of one timing, and the output in single precision on the CPU."""
        import torch

        with torch.inference_mode():
            began = time.perf_counter()
            out = variant().float().cpu()  # compiles, where there is something to compile
            first = time.perf_counter() - began
            with extra_memory(self.device) as extra:
                rate = batch / seconds_per_call(variant, self.seconds, self.device)
        row: Row = {
            "batch": batch,
            "dtype": str(next(variant.network.parameters()).dtype).removeprefix("torch."),
            "evaluations_per_second": rate,
            "tflops": rate * self.flops / 1e12,
            "first_pass_seconds": first,
        }
        if extra and variant.replay is None:  # a graph holds its memory from its recording on
            row["memory_gib"] = weights_gib(variant.network) + extra["gib"]
        return row, out


def _many_compilations() -> Any:
    """Context in which each shape of a repeated block is compiled, however many there are."""
    import torch

    return torch._dynamo.config.patch(recompile_limit=64)
