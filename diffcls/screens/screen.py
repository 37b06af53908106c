"""What a screen is: it asks for looks, is told what they show, and ends with a few classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diffcls.errors import UsageError
from diffcls.search.racing import Racing

if TYPE_CHECKING:
    from diffcls.denoiser import Conditioning
    from diffcls.prompts import PromptSet

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

SLOPE_EVALUATIONS = 3
"""Cost of a look with slopes: a forward pass, and a backward pass that counts as two."""


@dataclass(frozen=True)
class Look:
    """One pass at a point among the prompts, on one draw.

    Args:
        members: (S,) classes, in order, whose mean embedding is the point.
        draw: which (timestep, noise).
        slopes: whether all classes' first-order errors are wanted, ``e(c̄) + ⟨∂e/∂c, c_k − c̄⟩`` as
            (K,), rather than the error of the point alone.
    """

    members: tuple[int, ...]
    draw: int
    slopes: bool

    @property
    def evaluations(self) -> int:
        """What it costs."""
        return SLOPE_EVALUATIONS if self.slopes else 1


class Narrowing(Protocol):
    """One image's way from all classes to a few.

    Attributes:
        alive: (S,) classes that are left, in order.
    """

    alive: Int64

    def ask(self) -> list[Look] | None:
        """What to look at next; None when done. Every earlier look has been answered."""

    def tell(self, shown: Sequence[NDArray[np.floating]]) -> None:
        """The answers to the looks asked for last, in their order."""

    def behind(self, leader: int) -> Float64:
        """(K,) how much worse than the leader each class seemed when it was last looked at.

        In units of the error, above 0 for a class that was screened out; 0 for all others.
        """


class Begin(Protocol):
    """How the narrowing of an image begins, given how to open it."""

    def __call__(self, open_image: Any) -> Narrowing: ...


@dataclass(frozen=True)
class Screened(Racing, ABC):
    """A race among the classes that a screen leaves.

    Args:
        candidates: classes left to the race at most, at least 1; data sets with no more classes
            are raced as they are.
    """

    candidates: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise UsageError("candidates out of range", given=self.candidates, allowed="1 or more")

    @abstractmethod
    def prepare(self, prompts: PromptSet, cond: Conditioning) -> Begin:
        """What all images share.

        Args:
            prompts: the candidate classes.
            cond: their encoding.
        """

    @abstractmethod
    def most_before(self, classes: int) -> tuple[int, int]:
        """Evaluations of an image's screen at most, and classes that it leaves at most."""


def class_embeddings(prompts: PromptSet, cond: Conditioning) -> dict[str, Any]:
    """Name -> (K, D) float32: each class's embedding, the mean over its prompts.

    Raises:
        UsageError: where prompts have no embeddings, as class ids have none.
    """
    import torch

    found = {}
    for name, tensor in cond.items():
        if tensor.is_floating_point():
            flat = tensor.reshape(len(tensor), -1).float()
            total = torch.zeros(prompts.n_classes, flat.shape[1], device=flat.device)
            of_class = torch.tensor(prompts.class_of, device=flat.device)
            counts = torch.bincount(of_class, minlength=prompts.n_classes)[:, None]
            found[name] = total.index_add_(0, of_class, flat) / counts
    if not found:
        raise UsageError(
            "the model's prompts are class ids: there is nothing between them to look at",
            todo="choose --search racing",
        )
    return found
