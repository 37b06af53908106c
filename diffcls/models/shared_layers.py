"""Shared layers: the first layers of a network, up to the first cross-attention.

Their output depends on the noisy image and the timestep alone, so it is the same for all prompts.
They are found by what they compute: with a conditioning of NaN, exactly the layers that it reaches
return NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning, Denoiser

MIN_SHARE = 0.02
"""Share of a network's operations from which on shared layers are worth their bookkeeping."""
TRIAL_ROWS = 2
"""Rows of the passes that look for shared layers: enough to tell which axis is that of the rows."""

Outputs = list[Any]
"""Output of each shared layer: a tensor (B, ...), or tuples of them, as the layer returns it."""


class _Complete(Exception):
    """The last shared layer has run: the rest of the forward pass is not needed."""


class SharedLayers:
    """Layers of a denoiser's network that no prompt affects; see `find_shared_layers`.

    Args:
        denoiser: the model.
        layers: modules of its network, in the order in which they run.
        share: their share of the floating-point operations of a forward pass.
    """

    def __init__(self, denoiser: Denoiser, layers: Sequence[Any], share: float = 0.0) -> None:
        self._denoiser, self.layers, self.share = denoiser, list(layers), share

    @torch.inference_mode()
    def compute(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Outputs:
        """Outputs of the shared layers; the pass ends after the last one.

        Args:
            x_t, index: see `diffcls.models.denoiser.Denoiser.predict`.
            cond: any prompt in each row.
        """
        outputs: dict[int, Any] = {}

        def recorded(place: int, forward: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                outputs[place] = forward(*args, **kwargs)
                if len(outputs) == len(self.layers):
                    raise _Complete
                return outputs[place]

            return call

        with self._replaced(recorded), suppress(_Complete):
            self._denoiser.predict(x_t, index, cond)
        return [outputs[place] for place in range(len(self.layers))]

    @contextmanager
    def given(self, outputs: Outputs) -> Iterator[None]:
        """Context in which forward passes use these outputs in place of the shared layers."""

        def known(place: int, _forward: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *_args, **_kwargs: outputs[place]

        with self._replaced(known):
            yield

    @contextmanager
    def _replaced(
        self, replacement: Callable[[int, Callable[..., Any]], Callable[..., Any]]
    ) -> Iterator[None]:
        """Context in which each layer has another ``forward``."""
        try:
            for place, layer in enumerate(self.layers):
                layer.forward = replacement(place, layer.forward)
            yield
        finally:
            for layer in self.layers:
                vars(layer).pop("forward", None)


def find_shared_layers(denoiser: Denoiser, cond: Conditioning) -> SharedLayers | None:
    """The layers that no prompt affects, found by passes over a few rows of noise.

    Args:
        denoiser: the model.
        cond: encoded prompts, at least one.

    Returns:
        None for a model without such layers, or where they are too few to be worth it: the prompt
        enters a joint-attention transformer, SDXL (by its pooled embedding) and a class-conditional
        model at the first layers. Also for a network that is compiled, or whose layers are moved
        between devices.
    """
    from torch.utils.flop_counter import FlopCounterMode

    if not _is_plain(denoiser.network) or not all(t.is_floating_point() for t in cond.values()):
        return None
    noise = torch.randn(
        TRIAL_ROWS, *denoiser.sample_shape, generator=torch.Generator().manual_seed(0)
    )
    x_t = noise.to(denoiser.device, denoiser.dtype)
    index = torch.arange(1, 1 + TRIAL_ROWS, device=denoiser.device) * len(denoiser.schedule) // 4
    with torch.inference_mode():
        at = cond.rows(torch.zeros_like(index))
        unknown = Conditioning({name: tensor * float("nan") for name, tensor in at.items()})
        with FlopCounterMode(display=False) as whole:
            finished = _finished(denoiser, lambda: denoiser.predict(x_t, index, unknown))
        names = _outermost(denoiser.network, finished)
        modules = dict(denoiser.network.named_modules())  # type: ignore[union-attr]
        shared = SharedLayers(denoiser, [modules[name] for name in names])
        with FlopCounterMode(display=False) as part:
            outputs = shared.compute(x_t, index, at) if names else []
    # a layer that turned NaN into numbers would pass for one that no prompt affects
    independent = all(
        map(torch.equal, tensors_of(outputs), tensors_of([finished[name][0] for name in names]))
    )
    shared.share = part.get_total_flops() / max(1, whole.get_total_flops())
    return shared if independent and shared.share >= MIN_SHARE else None


def _is_plain(network: Any) -> bool:
    """Whether the layers of a network can be replaced: it is not compiled, and has no hooks."""
    if network is None or getattr(network, "_compiled_call_impl", None) is not None:
        return False
    return not any("forward" in vars(module) for module in network.modules())


def _finished(denoiser: Denoiser, run: Callable[[], object]) -> dict[str, list[Any]]:
    """Outputs of all calls of each module whose first call ended before NaN reached any."""
    finished: dict[str, list[Any]] = {}
    reached = False

    def watch(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            nonlocal reached
            finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors_of(output))
            reached = reached or not finite
            # later calls count, too: a module that is called twice is not one layer
            if not reached or name in finished:
                finished.setdefault(name, []).append(output)

        return hook

    modules = denoiser.network.named_modules()  # type: ignore[union-attr]
    handles = [module.register_forward_hook(watch(name)) for name, module in modules]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return finished


def tensors_of(output: Any) -> list[Tensor]:
    """All tensors of a module's output, in order; of nested lists, tuples and mappings."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [tensor for part in output for tensor in tensors_of(part)]
    return []


def with_tensors(output: Any, tensors: Iterator[Tensor]) -> Any:
    """The same output with other tensors, in the order of `tensors_of`."""
    if isinstance(output, Tensor):
        return next(tensors)
    return tuple(with_tensors(part, tensors) for part in output)


def _outermost(network: Any, finished: Mapping[str, list[Any]]) -> list[str]:
    """Names of the outermost modules that can be replaced by their output, as they run."""
    chosen: list[str] = []

    def descend(name: str, module: Any) -> None:
        calls = finished.get(name, ())
        if len(calls) == 1 and _has_rows(calls[0]):
            chosen.append(name)
            return
        for child, part in module.named_children():
            descend(f"{name}.{child}" if name else child, part)

    descend("", network)
    places = {name: place for place, name in enumerate(finished)}
    return sorted(chosen, key=places.__getitem__)


def _has_rows(output: Any) -> bool:
    """Whether an output is a tensor, or are tuples of tensors, whose first axis is the batch."""
    if isinstance(output, Tensor):
        return output.ndim > 0 and len(output) == TRIAL_ROWS
    return type(output) is tuple and bool(output) and all(map(_has_rows, output))
