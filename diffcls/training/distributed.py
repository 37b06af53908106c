"""Data-parallel training through accelerate: one process per device.

Each process takes batches of its own, and gradients are averaged before each step, as in one
process that accumulates the gradients of as many batches.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcls.models.devices import resolve_device
from diffcls.support.launchers import integer_variable

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class ProcessGroup:
    """This process among the data-parallel processes of one training.

    Args:
        rank: index of this process, from 0.
        size: number of processes.
        device: device that this process trains on.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes."""
        if self.size == 1:
            return
        from accelerate.utils import reduce

        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = reduce(parameter.grad, reduction="mean")

    def wait(self) -> None:
        """Block until every process has reached this point."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def join(device: str | None = None) -> ProcessGroup:
    """The process group that torchrun's environment variables describe; alone without them.

    Args:
        device: device to train on; None or ``auto``: this process's accelerator if there is one.

    Raises:
        UsageError: for an unknown or missing device, or a variable that is no whole number.
    """
    for name in ("RANK", "LOCAL_RANK"):
        integer_variable(os.environ, name)
    if (integer_variable(os.environ, "WORLD_SIZE") or 1) < 2:
        return ProcessGroup(device=resolve_device(device))
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    return ProcessGroup(state.process_index, state.num_processes, str(state.device))


def device_of(module: nn.Module) -> torch.device:
    """Device of a module's weights."""
    device: torch.device = next(module.parameters()).device
    return device
