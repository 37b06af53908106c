"""The processes that train one model together, a device each: accelerate's, where there are more.

Each takes batches of its own, and the gradients are averaged before a step: as one process would
that takes as many batches before each step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Team:
    """One process among those that train together.

    Args:
        rank: which it is, from 0.
        size: how many there are.
        device: where it trains.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes files and says how things go."""
        return self.rank == 0

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the team."""
        if self.size == 1:
            return
        from accelerate.utils import reduce

        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = reduce(parameter.grad, reduction="mean")

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def join(device: str | None = None) -> Team:
    """The team of this process: alone, or as torchrun says.

    Args:
        device: where to train; None: the accelerator of this process where there is one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        if device is None:
            import torch

            device = "cuda" if torch.cuda.is_available() else "cpu"
        return Team(device=device)
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    return Team(state.process_index, state.num_processes, str(state.device))


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights lie."""
    found: torch.device = next(module.parameters()).device
    return found
