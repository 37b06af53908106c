"""Gradient screening: error gradients at a few points estimate the error of every class.

One forward and one backward pass at a point p between the prompts, the mean embedding of a group of
classes, give the error and its gradient there, and so, to first order, the error of every class.
The expansions at M points are combined by inverse-distance weighting (Shepard 1968), with a
quadratic correction:

    ê_k = Σ_m w_mk · (e(p_m) + ⟨∂e/∂c at p_m, c_k − p_m⟩ + λ·d²_mk) / Σ_m w_mk,
    d_mk = ‖c_k − p_m‖,   w_mk = 1 / d²_mk

The curvature λ is estimated per image at no further cost: by least squares from the residual of
each expansion at all other points, and never below 0. Each round keeps the better part of the
classes and adds points among these, on the same draws, so points become more numerous and closer.
Classes that gradients cannot separate are then probed one by one, before the race.

The numbers of points and of classes probed one by one are proportional to the square root of the
number of classes, and so is the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.clustering import ClassDistances, Group, Groups, class_distances, cluster
from diffcls.search.racing import order_in_time
from diffcls.search.screening import (
    EVALUATIONS_PER_GRADIENT_PROBE,
    Probe,
    ScreenedSearch,
    StartScreening,
    last_differences,
)
from diffcls.support.errors import UsageError
from diffcls.support.free_memory import release_free_memory
from diffcls.support.invariants import known
from diffcls.support.types import Float64, Int64


@dataclass(frozen=True)
class Gradient(ScreenedSearch):
    """Rounds of gradient probes, a probe of each class that is left, then a race; see the module.

    Args:
        round_draws: draws at every point, each of three evaluations; never more than `draws`.
        place: position of these draws among all draws in order of time, in [0, 1]. At low noise the
            error is nearly linear in the prompt; at very low noise it hardly depends on the class.
        density: points in a round of S classes, divided by √S; above 0.
        shrink: fraction of the classes that a round keeps, in (0, 1).
        width: classes of K that the rounds leave to be probed one by one, divided by √K; above 0.
            If these are no more than twice the candidates, rounds continue down to the candidates.
    """

    candidates: int = 10
    round_draws: int = 1
    place: float = 0.25
    density: float = 0.4
    shrink: float = 0.25
    width: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, fits, allowed in (
            ("round_draws", self.round_draws >= 1, "1 or more"),
            ("place", 0 <= self.place <= 1, "[0, 1]"),
            ("density", 0 < self.density < np.inf, "above 0"),
            ("shrink", 0 < self.shrink < 1, "(0, 1)"),
            ("width", 0 < self.width < np.inf, "above 0"),
        ):
            if not fits:
                raise UsageError(f"{name} out of range", given=getattr(self, name), allowed=allowed)

    @property
    def screen(self) -> GradientScreen:
        draws = self._probe_draws()
        return GradientScreen(self.candidates, draws, self.density, self.shrink, self.width)

    def _probe_draws(self) -> tuple[int, ...]:
        """The draws of every probe, the middle one at `place` in order of time."""
        count = min(self.round_draws, self.draws)
        first = round(self.place * (self.draws - 1)) - (count - 1) // 2
        first = min(max(first, 0), self.draws - count)
        return tuple(order_in_time(self.draws)[first : first + count].tolist())


@dataclass(frozen=True)
class GradientScreen:
    """Rounds of gradient probes, then probes of single classes.

    Args:
        candidates: maximum length of the shortlist.
        draws: (D,) draws of every probe.
        density, shrink, width: see `Gradient`.
    """

    candidates: int
    draws: tuple[int, ...]
    density: float
    shrink: float
    width: float

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> StartScreening:
        distances = class_distances(prompts, cond)
        first = first_points(self, distances)
        release_free_memory()
        return lambda open_image: GradientScreening(self, distances, first)

    def limits(self, classes: int) -> tuple[int, int]:
        cost, left, draws = 0, classes, len(self.draws)
        while left > self.rounds_leave(classes):
            cost += EVALUATIONS_PER_GRADIENT_PROBE * draws * self.points(left)
            left = self.keep(left, classes)
        if left > self.candidates:
            cost, left = cost + draws * left, self.candidates
        return cost, left

    def points(self, classes: int) -> int:
        """Points in a round of so many classes."""
        return min(classes, int(np.ceil(self.density * np.sqrt(classes))))

    def rounds_leave(self, classes: int) -> int:
        """Classes that the rounds leave of K."""
        one_by_one = int(np.ceil(self.width * np.sqrt(classes)))
        return one_by_one if one_by_one > 2 * self.candidates else self.candidates

    def keep(self, left: int, classes: int) -> int:
        """Classes that a round keeps of those that are left, of K in all."""
        target = min(left - 1, int(np.ceil(self.shrink * left)))
        return max(self.rounds_leave(classes), target)


class GradientScreening:
    """Screening of one image.

    Args:
        screen: the options.
        distances: between the classes' embeddings.
        first: points of the first round, see `first_points`.
    """

    def __init__(
        self, screen: GradientScreen, distances: ClassDistances, first: FirstPoints
    ) -> None:
        self._screen, self._distances = screen, distances
        self.shortlist = np.arange(len(distances), dtype=np.int64)
        self._groups, first_squares = first
        self._expansions: Expansions | None = Expansions(distances, first_squares)
        # classes of each round and their errors
        self._rounds: list[tuple[Int64, Float64]] = []

    def request(self) -> list[Probe] | None:
        if len(self.shortlist) <= self._screen.candidates:
            return None
        gradient = self._by_gradient()
        groups = self._groups if gradient else [(k,) for k in self.shortlist.tolist()]
        return [Probe(group, draw, gradient) for group in groups for draw in self._screen.draws]

    def receive(self, results: Sequence[NDArray[np.floating]]) -> None:
        left, classes = len(self.shortlist), len(self._distances)
        if self._by_gradient():
            expansions = known(self._expansions)
            # (groups · draws, K) -> (groups, K)
            each = np.stack(results).reshape(len(self._groups), -1, classes)
            expansions.add(self._groups, each.mean(axis=1, dtype=np.float64))
            errors = expansions.errors()
            kept = self._screen.keep(left, classes)
        else:
            # (classes · draws,) -> (classes,)
            errors = np.array(results, np.float64).reshape(left, -1).mean(axis=1)
            kept = self._screen.candidates
        self._rounds.append((self.shortlist, errors))
        order = self.shortlist[np.argsort(errors, kind="stable")]
        self.shortlist = np.sort(order[:kept])
        if self._by_gradient():
            known(self._expansions).keep(self.shortlist)
            pairs = self._distances.pairs_among(self.shortlist)
            parts = cluster(pairs, self._screen.points(len(self.shortlist)))
            self._groups = tuple(tuple(self.shortlist[list(part)].tolist()) for part in parts)
        else:  # of use to gradient probes alone; an image may wait long for its race
            self._expansions = None
            self._groups = ()

    def deficits(self, leader: int) -> Float64:
        rounds = []
        for classes, values in self._rounds:
            rounds.append(np.full(len(self._distances), np.nan))
            rounds[-1][classes] = values
        return last_differences(rounds, self.shortlist, leader)

    def _by_gradient(self) -> bool:
        """Whether the next round is of gradient probes, or of single classes."""
        return len(self.shortlist) > self._screen.rounds_leave(len(self._distances))


FirstPoints = tuple[Groups, Float64]
"""Groups of all K classes, and the squared distances (M, K) of their M means to each class."""


def first_points(screen: GradientScreen, distances: ClassDistances) -> FirstPoints:
    """The points of the first round, which all images share."""
    everything = np.arange(len(distances))
    groups = cluster(distances.pairs_among(everything), screen.points(len(distances)))
    return groups, np.stack([squares_to_mean(distances, group) for group in groups])


def squares_to_mean(distances: ClassDistances, group: Group) -> Float64:
    """(K,) squared distance of each class to the mean of a group.

    ‖c_k − mean‖² = mean_j ‖c_k − c_j‖² − ½ mean_ij ‖c_i − c_j‖², i and j in the group
    """
    square = distances.between(group, range(len(distances))) ** 2
    away: Float64 = square.mean(axis=0) - square[:, list(group)].mean() / 2
    return np.maximum(away, 0.0)


class Expansions:
    """Errors of classes from first-order expansions at several points; see the module.

    Values at classes that were screened out are not kept; the means over the classes of each point
    are, for the curvature.

    Args:
        distances: between the classes' embeddings.
        first_squares: (M, K) of the first M groups that are added, see `squares_to_mean`; shared
            by all images.
    """

    def __init__(self, distances: ClassDistances, first_squares: Float64 | None = None) -> None:
        self._distances, self._first_squares = distances, first_squares
        self._columns = np.arange(len(distances))  # classes whose values are kept
        self._members: list[Group] = []
        self._first_order = np.empty((0, len(distances)))
        self._squares = np.empty((0, len(distances)))  # d²_mk
        # (M, M) means over the classes of each point, a column
        self._first_order_at = np.empty((0, 0))
        self._squares_at = np.empty((0, 0))

    def add(self, groups: Groups, first_order: Float64) -> None:
        """Add the expansions at the means of M groups, (M, K)."""
        # the same draws give the same expansion
        first = {group: n for n, group in reversed([*enumerate(groups)])}
        new = sorted(n for group, n in first.items() if group not in self._members)
        if not new:
            return
        if self._first_squares is not None and not self._members:
            squares = self._first_squares
        else:
            squares = np.stack([squares_to_mean(self._distances, groups[n]) for n in new])
        first_order = first_order[new]
        added = [groups[n] for n in new]
        places = [np.searchsorted(self._columns, group) for group in added]
        for name, values in (("_first_order", first_order), ("_squares", squares)):
            old, old_at = getattr(self, name), getattr(self, f"{name}_at")
            of_old = np.hstack([old_at, means_over(old, places)])
            of_new = means_over(values, [*self._members, *added])
            setattr(self, f"{name}_at", np.vstack([of_old, of_new]))
            setattr(self, name, np.vstack([old, values[:, self._columns]]))
        self._members += added

    def keep(self, classes: Int64) -> None:
        """Keep the values at some of the classes alone; points added later lie between these."""
        chosen = np.searchsorted(self._columns, classes)
        self._columns = classes
        self._first_order = self._first_order[:, chosen].copy(order="C")
        self._squares = self._squares[:, chosen].copy(order="C")

    def errors(self) -> Float64:
        """(S,) ê_k of the classes that are kept."""
        # a class that is a point itself has that point's error
        weight = 1 / np.maximum(self._squares, np.finfo(np.float32).tiny)
        total = weight.sum(axis=0)
        errors: Float64 = (weight * self._first_order).sum(axis=0) / total
        bend: Float64 = (weight * self._squares).sum(axis=0) / total
        return errors + self._curvature() * bend

    def _curvature(self) -> float:
        """λ = Σ d²·missed / Σ d⁴ over all pairs of points; 0 for a single point."""
        # (M, M): a linear function at the mean of classes is the mean of its values there
        expanded = self._first_order_at
        missed = np.diag(expanded)[None, :] - expanded
        square = self._squares_at
        square = np.maximum(square - np.diag(square)[None, :], 0.0)  # as in `squares_to_mean`
        length = float((square**2).sum())
        return max(float((square * missed).sum()) / length, 0.0) if length > 0 else 0.0


def means_over(values: Float64, groups: Sequence[Sequence[int] | Int64]) -> Float64:
    """(M, G) means of (M, S) values over groups of columns.

    A row's result is the same to the bit whatever the other rows are.
    """
    if len(values) == 1:  # numpy would add the values of a single row in another order
        return means_over(np.repeat(values, 2, axis=0), groups)[:1]
    means = [values[:, np.asarray(group)].mean(axis=1) for group in groups]
    return np.stack(means, axis=1) if means else np.empty((len(values), 0))
