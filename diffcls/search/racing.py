"""Racing: best-arm identification that drops classes confidently behind the leader.

A class is dropped once its paired difference to the leader is confidently positive.

All classes see the same draws, so the noise common to all of them cancels in the differences
(Maron and Moore 1994, Hoeffding races; here on paired differences, as in Birattari et al. 2002).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diffcls.diffusion.draws import nested_order
from diffcls.search.error_table import Table, counts, leader, pairs
from diffcls.search.unscreened import NestedSearch, check_draws
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64

_FINE_SCHEDULE_LENGTH = 1 << 20
"""Long enough that no two draws share a timestep."""
MIN_RIVALS_FOR_PROFILE = 8
"""Rivals from which on their common profile over time is removed from the variance."""


@dataclass(frozen=True)
class RaceOptions:
    """Options of a race.

    Args:
        draws: N, maximum draws per class: the hard budget for near-ties.
        confidence: probability, over all classes and rounds of an image, that no class is dropped
            which the full table puts ahead by more than two standard errors of its own; in (0, 1).
        start: draws of every class before any class may be dropped, at least 2.
        prior: draws that the pooled variance counts as at most, above 0; never more than the
            other surviving classes have.
        budget: maximum evaluations (class, draw) per image, or None: no draw begins that would
            exceed it. It must allow one evaluation per class.
    """

    draws: int = 40
    confidence: float = 0.95
    start: int = 2
    prior: float = 20.0
    budget: int | None = None

    def __post_init__(self) -> None:
        check_draws(self.draws)
        if not 0.0 < self.confidence < 1.0:
            raise UsageError("confidence out of range", given=self.confidence, allowed="(0, 1)")
        if not 2 <= self.start:
            raise UsageError("start out of range", given=self.start, allowed="2 or more")
        if not self.prior > 0:
            raise UsageError("prior out of range", given=self.prior, allowed="above 0")
        if self.budget is not None and self.budget < 1:
            raise UsageError("budget out of range", given=self.budget, allowed="1 or more")


@dataclass(frozen=True)
class Racing(RaceOptions, NestedSearch):
    """Every class gets `start` draws, then the survivors one draw after another.

    After each draw, class k is dropped where

        d̄_k > t_{1−δ} · √(v_k · (1/n − 1/N)),     δ = (1 − confidence) / (K − 1)

    with d̄_k the mean paired difference to the leader over n of the N draws and t the quantile of
    Student's distribution. The question is which class leads after all N draws, so the n draws are
    a sample of a finite population, and after the last one no uncertainty is left (Cochran 1977,
    section 2.6). With gaps between classes of any size equally likely, the tail beyond d̄_k is the
    probability that the remaining draws reverse the order; summed over the classes dropped, each in
    one round, it bounds the error probability of the image over all classes and rounds. If gaps are
    close to zero, orders are reversed more often than that; but then they are ties in the full
    table too, if it has at most a hundred draws. With hundreds of draws, a single small gap may be
    missed more often.

    The draws cover time evenly, so a smooth common trend of the differences over time adds nothing
    to the spread of their mean. v_k therefore is not the plain variance but that of systematic
    sampling: half the mean square of successive differences, the draws taken in order of time (von
    Neumann 1941; Wolter 2007, section 8.2). It still contains a good part of a steep profile,
    which is conservative, but costly when many classes remain after two draws. So with at least
    `MIN_RIVALS_FOR_PROFILE` surviving rivals, their spread s_j at each draw estimates their common
    profile, and v_k is the mean square of the residuals d_kj − β_k·s_j, β_k by least squares.
    With few draws a class's own variance s_k² is poorly estimated, so it is shrunk towards the mean
    s̄² over all surviving rivals, as if that had been observed on `prior` draws (empirical Bayes):

        v_k = (prior · s̄² + (n − 1) · s_k²) / (prior + n − 1),   with prior + n − 1 degrees.

    Args:
        draws, confidence, start, prior, budget: see `RaceOptions`.
    """

    def ask(self, errors: Table) -> Int64 | None:
        classes, draws = errors.shape
        n = counts(errors)
        done = int(n.max())
        if done == 0:
            return pairs(np.arange(classes), np.arange(min(self._first(classes), draws)))
        alive = np.flatnonzero(n == done)
        if len(alive) > 1 and done < draws:
            alive = alive[~self._dropped(errors[alive, :done], classes)]
        if len(alive) == 1 or done == draws:
            return None
        if self.budget is not None and int(n.sum()) + len(alive) > self.budget:
            return None
        return pairs(alive, np.array([done]))

    def _first(self, classes: int) -> int:
        """Draws of every class in the first request: `start`, or what the budget allows."""
        if self.budget is None:
            return self.start
        if self.budget < classes:
            raise UsageError(
                "budget does not allow one evaluation per class",
                given=self.budget,
                allowed=f"{classes} or more",
            )
        return min(self.start, self.budget // classes)

    def _dropped(self, errors: Table, classes: int) -> np.ndarray:
        """(A,) whether each surviving class is confidently behind; errors (A, n) without NaN."""
        n = errors.shape[1]
        best = leader(errors)
        rivals = np.arange(len(errors)) != best
        if n < 2:
            return np.zeros(len(errors), dtype=bool)
        difference = errors.astype(np.float64) - errors[best].astype(np.float64)
        variance = (
            _around_profile(difference)
            if rivals.sum() >= MIN_RIVALS_FOR_PROFILE
            else in_time(difference)
        )
        # the pooled variance counts for no more draws than the other rivals have
        prior = min(self.prior, float((rivals.sum() - 1) * (n - 1)))
        degrees = prior + n - 1
        shrunk = (prior * variance[rivals].mean() + (n - 1) * variance) / degrees
        delta = (1.0 - self.confidence) / (classes - 1)
        # finite population of N draws: after the last one no uncertainty is left
        left = 1.0 / n - 1.0 / self.draws
        margin = np.sqrt(shrunk * left) * _student_quantile(1.0 - delta, degrees)
        return rivals & (difference.mean(axis=1) > margin)


def in_time(difference: Float64) -> Float64:
    """(A,) s² = Σ (d_{i+1} − d_i)² / (2(n − 1)), i in order of time; difference (A, n).

    The variance per draw of the mean of n draws spread evenly over time (von Neumann 1941; Wolter
    2007, section 8.2). The draws are in the nested order of `Racing.plan`.
    """
    n = difference.shape[1]
    ordered = difference[:, order_in_time(n)]
    variance: Float64 = (np.diff(ordered, axis=1) ** 2).sum(axis=1) / (2 * (n - 1))
    return variance


def _around_profile(difference: Float64) -> Float64:
    """(A,) s² = Σ (d_j − β·s_j)² / (n − 1), s_j the spread of all classes; difference (A, n)."""
    spread = difference.std(axis=0)
    length = spread @ spread
    slope = difference @ spread / length if length > 0 else np.zeros(len(difference))
    residual = difference - slope[:, None] * spread
    variance: Float64 = (residual**2).sum(axis=1) / (difference.shape[1] - 1)
    return variance


@lru_cache(maxsize=1024)
def order_in_time(draws: int) -> Int64:
    """(draws,) the draws by ascending timestep; an allocation keeps that order."""
    return np.argsort(nested_order(_FINE_SCHEDULE_LENGTH, draws))


@lru_cache(maxsize=4096)
def _student_quantile(probability: float, degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
