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
from diffcls.search.clustering import Groups, class_distances, cluster
from diffcls.search.racing import order_in_time
from diffcls.search.screening import (
    EVALUATIONS_PER_GRADIENT_PROBE,
    Probe,
    ScreenedSearch,
    StartScreening,
    last_differences,
)
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64


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
        first = cluster(distances, self.points(len(distances)))
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
        distances: (K, K) between the classes' embeddings.
        groups: groups of all classes; their means are the points of the first round.
    """

    def __init__(self, screen: GradientScreen, distances: Float64, groups: Groups) -> None:
        self._screen, self._distances = screen, distances
        self.shortlist = np.arange(len(distances), dtype=np.int64)
        self._groups = groups
        self._expansions = Expansions(distances)
        self._rounds: list[Float64] = []  # (K,) errors of each round, NaN outside it

    def request(self) -> list[Probe] | None:
        if len(self.shortlist) <= self._screen.candidates:
            return None
        gradient = self._by_gradient()
        groups = self._groups if gradient else [(k,) for k in self.shortlist.tolist()]
        return [Probe(group, draw, gradient) for group in groups for draw in self._screen.draws]

    def receive(self, results: Sequence[NDArray[np.floating]]) -> None:
        left, classes = len(self.shortlist), len(self._distances)
        errors = np.full(classes, np.nan)
        if self._by_gradient():
            # (groups · draws, K) -> (groups, K)
            each = np.stack(results).reshape(len(self._groups), -1, classes)
            self._expansions.add(self._groups, each.mean(axis=1, dtype=np.float64))
            errors[self.shortlist] = self._expansions.errors()[self.shortlist]
            kept = self._screen.keep(left, classes)
        else:
            # (classes · draws,) -> (classes,)
            means = np.array(results, np.float64).reshape(left, -1).mean(axis=1)
            errors[self.shortlist] = means
            kept = self._screen.candidates
        self._rounds.append(errors)
        order = self.shortlist[np.argsort(errors[self.shortlist], kind="stable")]
        self.shortlist = np.sort(order[:kept])
        if self._by_gradient():
            among = self._distances[np.ix_(self.shortlist, self.shortlist)]
            parts = cluster(among, self._screen.points(len(among)))
            self._groups = tuple(tuple(self.shortlist[list(part)].tolist()) for part in parts)

    def deficits(self, leader: int) -> Float64:
        return last_differences(self._rounds, self.shortlist, leader)

    def _by_gradient(self) -> bool:
        """Whether the next round is of gradient probes, or of single classes."""
        return len(self.shortlist) > self._screen.rounds_leave(len(self._distances))


class Expansions:
    """Errors of all classes from first-order expansions at several points; see the module.

    Args:
        distances: (K, K) between the classes' embeddings.
    """

    def __init__(self, distances: Float64) -> None:
        self._distances = distances
        self._members: list[list[int]] = []
        self._first_order = np.empty((0, len(distances)))
        self._squares = np.empty((0, len(distances)))  # d²_mk

    def add(self, groups: Groups, first_order: Float64) -> None:
        """Add the expansions at the means of M groups, (M, K)."""
        for group, expansion in zip(groups, first_order, strict=True):
            members = list(group)
            if members in self._members:  # the same draws give the same expansion
                continue
            self._members.append(members)
            # ‖c_k − mean‖² = mean_j ‖c_k − c_j‖² − ½ mean_ij ‖c_i − c_j‖², i and j in the group
            square = self._distances[members] ** 2
            away = square.mean(axis=0) - square[:, members].mean() / 2
            self._squares = np.vstack([self._squares, np.maximum(away, 0.0)])
            self._first_order = np.vstack([self._first_order, expansion])

    def errors(self) -> Float64:
        """(K,) ê_k."""
        # a class that is a point itself has that point's error
        weight = 1 / np.maximum(self._squares, np.finfo(np.float32).tiny)
        total = weight.sum(axis=0)
        errors: Float64 = (weight * self._first_order).sum(axis=0) / total
        bend: Float64 = (weight * self._squares).sum(axis=0) / total
        return errors + self._curvature() * bend

    def _curvature(self) -> float:
        """λ = Σ d²·missed / Σ d⁴ over all pairs of points; 0 for a single point."""
        # (M, M): a linear function at the mean of classes is the mean of its values there
        expanded = self._at_points(self._first_order)
        missed = np.diag(expanded)[None, :] - expanded
        square = self._at_points(self._squares)
        square = np.maximum(square - np.diag(square)[None, :], 0.0)  # as in `add`
        length = float((square**2).sum())
        return max(float((square * missed).sum()) / length, 0.0) if length > 0 else 0.0

    def _at_points(self, values: Float64) -> Float64:
        """(M, M) the mean of (M, K) values over each point's classes."""
        return np.stack([values[:, members].mean(axis=1) for members in self._members], axis=1)
