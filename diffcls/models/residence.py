"""Residence of a model's parts: which of them are on the device, and which wait in main memory.

Parts have the roles ``text``, ``autoencoder`` and ``network``, one of which computes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Residence:
    """Places the parts of a model, by the value of ``--offload``.

    Args:
        device: where parts compute.
        offload: see `diffcls.models.memory_options.MemoryOptions`.
        placed: whether all parts have their place, on several devices, already.
    """

    def __init__(self, device: torch.device, offload: str = "none", placed: bool = False) -> None:
        self.device, self.offload, self._placed = device, offload, placed
        self._modules: dict[str, list[Any]] = {}
        self._present: str | None = None

    def hold(self, role: str, module: Any) -> None:
        """Place a part: on the device, or in main memory until its role is needed."""
        self._modules.setdefault(role, []).append(module)
        if self._placed or _is_fixed(module):
            return
        if self.offload == "none":
            module.to(self.device)
        elif self._is_by_layer(role):
            self._offload_layers(module)
        else:
            module.to("cpu")

    def need(self, role: str) -> None:
        """Bring the parts of a role to the device; those of other roles leave it first."""
        if self.offload == "none" or self._present == role:
            return
        for other, modules in self._modules.items():
            if other != role and not self._is_by_layer(other):
                for module in modules:
                    module.to("cpu")
        if not self._is_by_layer(role):
            for module in self._modules.get(role, []):
                module.to(self.device)
        self._present = role
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def whole(self, role: str) -> Iterator[None]:
        """Context in which the weights of a role can be changed, where layers are offloaded."""
        modules = self._modules.get(role, []) if self._is_by_layer(role) else []
        from accelerate.hooks import remove_hook_from_module

        for module in modules:
            remove_hook_from_module(module, recurse=True)
        try:
            yield
        finally:
            for module in modules:
                self._offload_layers(module)

    def _is_by_layer(self, role: str) -> bool:
        return self.offload == "sequential" and role != "autoencoder"

    def _offload_layers(self, module: Any) -> None:
        from accelerate import cpu_offload

        # parameters of the outermost module itself are moved only with its buffers
        cpu_offload(module, self.device, offload_buffers=bool(module._parameters))


def is_quantised(module: Any) -> bool:
    """Whether a library stores the weights of a part with few bits."""
    return getattr(module, "hf_quantizer", None) is not None


def _is_fixed(module: Any) -> bool:
    """Whether weights have their place since they were loaded, as those of bitsandbytes."""
    names = ("is_loaded_in_8bit", "is_loaded_in_4bit")
    return any(getattr(module, name, False) for name in names)
