"""What a screen is: it asks for looks, is told what they show, and ends with a few classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diffcls.search.racing import Racing
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64

if TYPE_CHECKING:
    from diffcls.data.prompts import PromptSet
    from diffcls.models.denoiser import Conditioning


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
        if self.budget is not None:  # the race does not know what its screen has cost
            raise UsageError(
                "a limit of evaluations is for a search without a screen",
                given=self.budget,
                todo="choose fewer draws or candidates, or --search racing",
            )

    @abstractmethod
    def prepare(self, prompts: PromptSet, cond: Conditioning) -> Begin:
        """What all images share.

        Args:
            prompts: the candidate classes.
            cond: their encoding, P rows.

        Raises:
            UsageError: where prompts have no embeddings, as class ids have none.
        """

    @abstractmethod
    def most_before(self, classes: int) -> tuple[int, int]:
        """Evaluations of an image's screen at most, and classes that it leaves at most."""


def last_differences(seen: Sequence[Float64], alive: Int64, leader: int) -> Float64:
    """(K,) each class's error less the leader's, where both were last seen; see `Narrowing`.

    Args:
        seen: (K,) errors of each round, NaN where a class was not in it; the leader was in all.
        alive: (S,) classes that were not screened out.
        leader: the class that the race found best, one of `alive`.
    """
    if not seen:
        return np.zeros(len(alive))
    found = np.zeros(len(seen[0]))
    for errors in seen:
        inside = ~np.isnan(errors)
        found[inside] = (errors - errors[leader])[inside]
    # a class that was screened out stays behind the leader, whatever it seemed to be once
    found = np.maximum(found, np.finfo(np.float32).tiny)
    found[alive] = 0.0
    return found
