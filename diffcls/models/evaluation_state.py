"""Evaluation in the midst of other work: eval mode and random states that are restored exactly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def evaluating(*parts: Any) -> Iterator[None]:
    """Context of an evaluation within somebody's training, which goes on as if it had not been.

    Inside, the networks are in eval mode and automatic mixed precision is off. Afterwards, on an
    exception too, each of their modules is in train or eval mode as it was, and so are the states
    of the global random generators of python, numpy and torch, on every device in use.

    Args:
        parts: networks, or diffusers pipelines, whose networks count. None are needed where a
            `diffcls.models.in_memory.denoiser_of` evaluates: it never changes the pipeline.
    """
    modules = [
        module for part in parts for network in _networks(part) for module in network.modules()
    ]
    modes = [(module, module.training) for module in modules]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    devices = {"cpu"} if accelerator is None else {"cpu", accelerator.type}
    with _random_states_kept(), ExitStack() as stack:
        for device in sorted(devices):
            stack.enter_context(torch.autocast(device, enabled=False))
        try:
            for module, _ in modes:
                module.training = False  # its own only: `eval` may do more in a subclass
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def _networks(part: Any) -> list[nn.Module]:
    if isinstance(part, nn.Module):
        return [part]
    return [p for p in vars(part).values() if isinstance(p, nn.Module)]


@contextmanager
def _random_states_kept() -> Iterator[None]:
    own, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    on_cpu = torch.get_rng_state()
    # a device that nobody has used is not set up for this
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    on_mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(on_cpu)
        if on_cuda:
            torch.cuda.set_rng_state_all(on_cuda)
        if on_mps is not None:
            torch.mps.set_rng_state(on_mps)
