"""Screening: cheap probes between the prompts shorten the list of classes before a race.

A screened search is composed of two parts: a screen, which requests probes and returns a shortlist
of classes, and a race, which decides among these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diffcls.search.error_table import Table
from diffcls.search.racing import RaceOptions, Racing
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64

if TYPE_CHECKING:
    from diffcls.data.prompts import PromptSet
    from diffcls.models.denoiser import Conditioning

EVALUATIONS_PER_GRADIENT_PROBE = 3
"""A forward pass, and a backward pass that counts as two."""


@dataclass(frozen=True)
class Probe:
    """One pass of the network at a point between the prompts, on one draw.

    Args:
        members: (S,) classes in ascending order, whose mean embedding is the point.
        draw: index of the (timestep, noise) pair.
        gradient: whether the result is the first-order error of every class,
            ``e(c̄) + ⟨∂e/∂c, c_k − c̄⟩`` as (K,), rather than the error at the point alone.
        features: whether the (F,) features of the network follow these in the result, of a probe
            with a gradient; see `diffcls.scoring.network_features`.
        reuse: whether the race uses the result as well, of a probe of a single class without a
            gradient; if the class has a single prompt, that is the evaluation of this prompt.
    """

    members: tuple[int, ...]
    draw: int
    gradient: bool
    features: bool = False
    reuse: bool = False

    @property
    def evaluations(self) -> int:
        """Cost of the probe in evaluations."""
        return EVALUATIONS_PER_GRADIENT_PROBE if self.gradient else 1


class Screening(Protocol):
    """The screening of one image, from all classes to a shortlist.

    Attributes:
        shortlist: (S,) classes that are left, in ascending order.
    """

    shortlist: Int64

    def request(self) -> list[Probe] | None:
        """Probes to evaluate next; None when the screening is finished.

        The request stays the same until its results are received.
        """

    def receive(self, results: Sequence[NDArray[np.floating]]) -> None:
        """Take the results of the requested probes, in their order, and shorten the list."""

    def deficits(self, leader: int) -> Float64:
        """(K,) by how much each class was worse than the leader when it was last compared.

        In units of the error: above 0 for a class that was screened out, 0 for all others.
        """


StartScreening = Callable[[Callable[[], Any]], Screening]
"""A function that opens the image -> the screening of that image."""


class Screen(Protocol):
    """A method of screening, shared by all images of a run."""

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> StartScreening:
        """Compute what all images share.

        Args:
            prompts: the candidate classes.
            cond: their encoding, P rows.

        Raises:
            UsageError: if the prompts have no embeddings, as class ids have none.
        """

    def limits(self, classes: int) -> tuple[int, int]:
        """Maximum evaluations per image, and maximum length of the shortlist of K classes."""


@dataclass(frozen=True)
class ScreenedSearch(RaceOptions, ABC):
    """A search composed of a screen and a race; its fields are the options of both.

    Args:
        candidates: maximum length of the shortlist, at least 1; data sets with no more classes
            are not screened.
    """

    candidates: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise UsageError("candidates out of range", given=self.candidates, allowed="1 or more")
        if self.budget is not None:  # the race does not know the cost of the screen
            raise UsageError(
                "--max-evaluations is for a search without a screen",
                given=self.budget,
                todo="choose fewer draws or candidates, or --search racing",
            )

    @property
    @abstractmethod
    def screen(self) -> Screen:
        """The screen."""

    @property
    def race(self) -> Racing:
        """The race among the classes of the shortlist."""
        return Racing(self.draws, self.confidence, self.start, self.prior)

    def plan(self, length: int) -> Int64:
        return self.race.plan(length)

    def ask(self, errors: Table) -> Int64 | None:
        return self.race.ask(errors)

    def rank(self, errors: Table) -> Int64:
        return self.race.rank(errors)


def last_differences(rounds: Sequence[Float64], shortlist: Int64, leader: int) -> Float64:
    """(K,) deficit of each class to the leader in its last round; see `Screening.deficits`.

    Args:
        rounds: (K,) errors of each round, NaN for a class that was not in it; the leader was in
            all rounds.
        shortlist: (S,) classes that were not screened out.
        leader: the class that the race ranked first, one of `shortlist`.
    """
    if not rounds:
        return np.zeros(len(shortlist))
    deficits = np.zeros(len(rounds[0]))
    for errors in rounds:
        inside = ~np.isnan(errors)
        deficits[inside] = (errors - errors[leader])[inside]
    # a class that was screened out stays behind the leader, even if it once had a lower error
    deficits = np.maximum(deficits, np.finfo(np.float32).tiny)
    deficits[shortlist] = 0.0
    return deficits
