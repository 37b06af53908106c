"""Definition of an error: its loss, and the weighting over timesteps."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.diffusion.parameterization import BOUND_LOSSES, LOSSES, check_loss
from diffcls.support.errors import unknown_name


@dataclass(frozen=True)
class Scoring:
    """Definition of an error.

    Args:
        loss: "l2", "l1" or "huber", of the ε-residual, averaged over C·h·w; "vlb", the term of the
            variational bound at the draw's timestep in bits per dimension, for a model with a
            learned variance; or "l2+vlb", their sum.
        weighting: per-timestep factor of a loss of the residual, see
            `diffcls.diffusion.parameterization.loss_weight`; the bound has weights of its own.

    Raises:
        UsageError: for an unknown loss, or a weighting of the bound.
    """

    loss: str = "l2"
    weighting: str = "uniform"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES and self.loss not in BOUND_LOSSES:
            raise unknown_name("loss", self.loss, (*LOSSES, *BOUND_LOSSES))
        check_loss(self.loss, self.weighting)
