"""Shared layers: the first layers of a network, up to the first cross-attention.

Their output depends on the noisy image and the timestep alone, so it is the same for all prompts.
They are found by what they compute: with a conditioning of NaN, exactly the layers that it reaches
return NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.support.errors import UsageError

MIN_SHARE = 0.01
"""Share of a network's operations from which on shared layers are worth their bookkeeping."""
TRIAL_ROWS = 2
"""Rows of the passes that look for shared layers: enough to tell which axis is that of the rows."""

Outputs = list[Any]
"""Output of each shared layer: a tensor (B, ...), or tuples of them, as the layer returns it."""


class _Complete(Exception):
    """The last shared layer has run: the rest of the forward pass is not needed."""


class SharedLayers:
    """Layers of a denoiser's network that no prompt affects, in the order in which they run.

    Args:
        denoiser: the model.
        cond: encoded prompts, at least one.

    Attributes:
        share: their share of the floating-point operations of a forward pass.

    Raises:
        UsageError: for a model without such layers, or where they are too few to be worth it: the
            prompt enters a joint-attention transformer, SDXL (by its pooled embedding) and a
            class-conditional model at the first layers.
    """

    def __init__(self, denoiser: Denoiser, cond: Conditioning) -> None:
        self._denoiser = denoiser
        self.share = 0.0
        self._layers: list[Any] = []
        floating = all(tensor.is_floating_point() for tensor in cond.values())
        if denoiser.network is not None and floating:
            with torch.inference_mode():
                self._find(cond)
        if self.share < MIN_SHARE:
            raise UsageError(
                "--share-prefix has no effect on this model",
                given=f"{denoiser.card.name}, {100 * self.share:.1f} % of whose operations come "
                "before the first one that depends on the prompt",
                allowed="models with a U-Net or transformer whose prompts enter by cross-attention",
                todo="remove it",
            )

    def _find(self, cond: Conditioning) -> None:
        """Set `_layers` and `share`, by passes over a few rows of noise."""
        from torch.utils.flop_counter import FlopCounterMode

        device, length = self._denoiser.device, len(self._denoiser.schedule)
        noise = torch.randn(
            TRIAL_ROWS, *self._denoiser.sample_shape, generator=torch.Generator().manual_seed(0)
        )
        x_t = noise.to(device, self._denoiser.dtype)
        index = torch.tensor([length // 3, length // 2], device=device)
        at = cond.rows(torch.zeros(TRIAL_ROWS, dtype=torch.int64, device=device))
        unknown = Conditioning({name: tensor * float("nan") for name, tensor in at.items()})
        with FlopCounterMode(display=False) as whole:
            finished = self._run_watched(lambda: self._denoiser.predict(x_t, index, unknown))
        found = _outermost(self._denoiser.network, finished)
        expected = [finished[name][0] for name in found]
        modules = dict(self._denoiser.network.named_modules())  # type: ignore[union-attr]
        self._layers = [modules[name] for name in found]
        if not found:
            return
        with FlopCounterMode(display=False) as shared:
            outputs = self.compute(x_t, index, at)
        # a layer that turns NaN into numbers would pass for one that no prompt affects
        if not all(map(_equal, outputs, expected)):
            self._layers = []
            return
        self.share = shared.get_total_flops() / max(1, whole.get_total_flops())

    def _run_watched(self, run: Callable[[], object]) -> dict[str, list[Any]]:
        """Output of each call of each module that ended before the first one with NaN."""
        finished: dict[str, list[Any]] = {}
        reached = False

        def watch(name: str) -> Callable[[Any, Any, Any], None]:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                nonlocal reached
                reached = reached or not all(
                    bool(torch.isfinite(tensor).all()) for tensor in tensors_of(output)
                )
                # later calls of a module count, too: a module of two calls is not one layer
                if not reached or name in finished:
                    finished.setdefault(name, []).append(output)

            return hook

        modules = self._denoiser.network.named_modules()  # type: ignore[union-attr]
        handles = [module.register_forward_hook(watch(name)) for name, module in modules]
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()
        return finished

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
                if len(outputs) == len(self._layers):
                    raise _Complete
                return outputs[place]

            return call

        with self._replaced(recorded):
            try:
                self._denoiser.predict(x_t, index, cond)
            except _Complete:
                pass
        return [outputs[place] for place in range(len(self._layers))]

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
        own = [vars(layer).get("forward") for layer in self._layers]  # of hooks of accelerate
        try:
            for place, layer in enumerate(self._layers):
                layer.forward = replacement(place, layer.forward)
            yield
        finally:
            for layer, forward in zip(self._layers, own, strict=True):
                vars(layer).pop("forward", None)
                if forward is not None:
                    layer.forward = forward


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


def _equal(one: Any, other: Any) -> bool:
    return all(map(torch.equal, tensors_of(one), tensors_of(other)))
