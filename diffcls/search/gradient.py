"""All classes at once: slopes of the error at a few points say how good every class would be.

One forward and one backward pass at a point p between the prompts, the mean embedding of a group of
classes, give its error and the slope of that; and so, to first order, the error of every class.
What M points say is put together as by Shepard (1968), the nearer the more, with what a quadratic
error adds to a slope:

    ê_k = Σ_m w_mk · (e(p_m) + ⟨∂e/∂c at p_m, c_k − p_m⟩ + λ·d²_mk) / Σ_m w_mk,
    d_mk = ‖c_k − p_m‖,   w_mk = 1 / d²_mk

The curvature λ is the image's own, and costs nothing more: by least squares from what the slope at
each point misses at all others, and never below 0. Rounds go on with the better part of the
classes, at points among these, on the same draws: so points only become more, and closer by. What a
slope cannot tell apart is then looked at class by class, before the race.

Points, and the classes that are looked at, are as many as the square root of the classes, times a
constant: so is the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.clustering import Groups, distances, parted
from diffcls.search.racing import order_in_time
from diffcls.search.screening import (
    SLOPE_EVALUATIONS,
    Begin,
    Look,
    Narrowing,
    Screened,
    last_differences,
)
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64


@dataclass(frozen=True)
class Gradient(Screened):
    """Rounds of slopes, a look at each class that is left, then a race; see the module.

    Args:
        round_draws: draws at every point, each of three evaluations; no more than `draws` are made.
        place: where among the draws, in order of time, these lie, in [0, 1]. With little noise the
            error is all but linear in the prompt; with next to none it says little of the class.
        density: points of a round of S classes, by √S; above 0.
        shrink: part of the classes that a round leaves, in (0, 1).
        width: classes that rounds leave of K, by √K, above 0, to be looked at one by one; where
            these are no more than twice the candidates, rounds go on to the candidates.
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

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> Begin:
        apart = distances(prompts, cond)
        first = parted(apart, self.points(len(apart)))
        return lambda open_image: Rounds(self, apart, first)

    def most_before(self, classes: int) -> tuple[int, int]:
        cost, left, draws = 0, classes, len(self.slope_draws)
        while left > self.rounds_leave(classes):
            cost += SLOPE_EVALUATIONS * draws * self.points(left)
            left = self.keep(left, classes)
        if left > self.candidates:
            cost, left = cost + draws * left, self.candidates
        return cost, left

    @property
    def slope_draws(self) -> list[int]:
        """The draws of every look of an image: those in the middle are `place` of the way up."""
        count = min(self.round_draws, self.draws)
        first = round(self.place * (self.draws - 1)) - (count - 1) // 2
        first = min(max(first, 0), self.draws - count)
        found: list[int] = order_in_time(self.draws)[first : first + count].tolist()
        return found

    def points(self, classes: int) -> int:
        """Points of a round of so many classes."""
        return min(classes, int(np.ceil(self.density * np.sqrt(classes))))

    def rounds_leave(self, classes: int) -> int:
        """Classes that rounds leave of so many in all."""
        one_by_one = int(np.ceil(self.width * np.sqrt(classes)))
        return one_by_one if one_by_one > 2 * self.candidates else self.candidates

    def keep(self, left: int, classes: int) -> int:
        """Classes that a round leaves of those that are left, of so many in all."""
        wanted = min(left - 1, int(np.ceil(self.shrink * left)))
        return max(self.rounds_leave(classes), wanted)


class Rounds(Narrowing):
    """One image's rounds.

    Args:
        options: of the screen.
        apart: (K, K) distances of the classes' embeddings.
        groups: of all classes, whose means are the first round's points.
    """

    def __init__(self, options: Gradient, apart: Float64, groups: Groups) -> None:
        self.options, self._apart = options, apart
        self.alive = np.arange(len(apart), dtype=np.int64)
        self._groups = groups
        self._shown = Expansions(apart)
        self._seen: list[Float64] = []  # (K,) errors of each round, NaN outside it

    def ask(self) -> list[Look] | None:
        if len(self.alive) <= self.options.candidates:
            return None
        slopes = self._slopes()
        groups = self._groups if slopes else [(k,) for k in self.alive.tolist()]
        draws = self.options.slope_draws
        return [Look(group, draw, slopes) for group in groups for draw in draws]

    def tell(self, shown: Sequence[NDArray[np.floating]]) -> None:
        left, classes = len(self.alive), len(self._apart)
        errors = np.full(classes, np.nan)
        if self._slopes():
            # (groups · draws, K) -> (groups, K)
            each = np.stack(shown).reshape(len(self._groups), -1, classes)
            self._shown.add(self._groups, each.mean(axis=1, dtype=np.float64))
            errors[self.alive] = self._shown.errors()[self.alive]
            kept = self.options.keep(left, classes)
        else:
            # (classes · draws,) -> (classes,)
            errors[self.alive] = np.array(shown, np.float64).reshape(left, -1).mean(axis=1)
            kept = self.options.candidates
        self._seen.append(errors)
        order = self.alive[np.argsort(errors[self.alive], kind="stable")]
        self.alive = np.sort(order[:kept])
        if self._slopes():
            among = self._apart[np.ix_(self.alive, self.alive)]
            parts = parted(among, self.options.points(len(among)))
            self._groups = tuple(tuple(self.alive[list(part)].tolist()) for part in parts)

    def behind(self, leader: int) -> Float64:
        return last_differences(self._seen, self.alive, leader)

    def _slopes(self) -> bool:
        """Whether a round of slopes comes next, or looks one by one."""
        return len(self.alive) > self.options.rounds_leave(len(self._apart))


class Expansions:
    """Errors of all classes from the slopes at several points; see the module.

    Args:
        apart: (K, K) distances of the classes' embeddings.
    """

    def __init__(self, apart: Float64) -> None:
        self._apart = apart
        self._members: list[list[int]] = []
        self._first_order = np.empty((0, len(apart)))
        self._squares = np.empty((0, len(apart)))  # d²_mk

    def add(self, groups: Groups, first_order: Float64) -> None:
        """What the slopes at the groups' means say of every class, (M, K)."""
        for group, found in zip(groups, first_order, strict=True):
            members = list(group)
            if members in self._members:  # on the same draws it says the same
                continue
            self._members.append(members)
            # ‖c_k − mean‖² = mean_j ‖c_k − c_j‖² − ½ mean_ij ‖c_i − c_j‖², i and j in the group
            square = self._apart[members] ** 2
            away = square.mean(axis=0) - square[:, members].mean() / 2
            self._squares = np.vstack([self._squares, np.maximum(away, 0.0)])
            self._first_order = np.vstack([self._first_order, found])

    def errors(self) -> Float64:
        """(K,) ê_k."""
        # a class that is a point itself has that point's error
        weight = 1 / np.maximum(self._squares, np.finfo(np.float32).tiny)
        total = weight.sum(axis=0)
        errors: Float64 = (weight * self._first_order).sum(axis=0) / total
        bend: Float64 = (weight * self._squares).sum(axis=0) / total
        return errors + self._curvature() * bend

    def _curvature(self) -> float:
        """λ = Σ d²·missed / Σ d⁴ over all pairs of points; 0 for a single one."""
        # (M, M) at the mean of classes, a linear function has the mean of its values there
        said = self._at_points(self._first_order)
        missed = np.diag(said)[None, :] - said
        square = self._at_points(self._squares)
        square = np.maximum(square - np.diag(square)[None, :], 0.0)  # as in `add`
        length = float((square**2).sum())
        return max(float((square * missed).sum()) / length, 0.0) if length > 0 else 0.0

    def _at_points(self, values: Float64) -> Float64:
        """(M, M) the mean of (M, K) values over each point's classes."""
        return np.stack([values[:, members].mean(axis=1) for members in self._members], axis=1)
