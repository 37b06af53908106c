"""Execution of networks in training: automatic mixed precision and compilation."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from diffcls.training.recipes import Optimisation


def mixed_precision(
    device: torch.device, optimisation: Optimisation
) -> AbstractContextManager[Any]:
    """Automatic mixed precision (Micikevicius et al. 2018), if the recipe says so."""
    dtype = getattr(torch, optimisation.precision)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def compiled(network: Any, optimisation: Optimisation) -> Any:
    """The network, or a compiled one with the same weights; all batches have one shape."""
    if not optimisation.compiled:
        return network
    return torch.compile(network, dynamic=False)
