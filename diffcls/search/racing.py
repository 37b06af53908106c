"""Racing: a class is dropped once its paired difference to the leader is confidently positive.

All classes see the same draws, so the noise common to all of them cancels in the differences
(Maron and Moore 1994, Hoeffding races; here on paired differences, as in Birattari et al. 2002).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diffcls.draws import nested_order
from diffcls.errors import UsageError
from diffcls.search.exhaustive import check_draws
from diffcls.search.table import (
    Float64,
    Int64,
    Table,
    counts,
    leader,
    paired,
    pairs,
    ranking,
)


@dataclass(frozen=True)
class Racing:
    """Every class gets `start` draws, then the survivors one draw after another.

    After each draw, class k is dropped where

        d̄_k > √(v_k / n) · t_{1−δ_n},     δ_n = (1 − confidence) / ((K − 1) · looks)

    with d̄_k the mean paired difference to the leader over n draws and t the quantile of Student's
    distribution: the union bound over all K − 1 rivals and all looks of an image. With few draws a
    class's own variance s_k² is hardly known, so it is drawn towards the mean variance s̄² of all
    living classes, as if that had been seen on `prior` draws (empirical Bayes):

        v_k = (prior · s̄² + (n − 1) · s_k²) / (prior + n − 1),   with prior + n − 1 degrees.

    Args:
        draws: N, draws of a class at most: the hard budget for near-ties.
        confidence: probability, for one image, that no look drops the class that all N draws
            would choose; in (0, 1).
        start: draws of every class before the first look, at least 2.
        prior: draws that the pooled variance counts as, above 0.
        budget: evaluations (class, draw) of an image at most, if given: no further draw begins
            that would exceed it.
    """

    draws: int = 100
    confidence: float = 0.95
    start: int = 3
    prior: float = 4.0
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

    def plan(self, length: int) -> Int64:
        return nested_order(length, self.draws)

    def ask(self, errors: Table) -> Int64 | None:
        classes, draws = errors.shape
        n = counts(errors)
        done = int(n.max())
        if done == 0:
            return pairs(np.arange(classes), np.arange(min(self.start, draws)))
        alive = np.flatnonzero(n == done)
        if len(alive) > 1 and done < draws:
            alive = alive[~self._dropped(errors[alive, :done], classes)]
        if len(alive) == 1 or done == draws:
            return None
        if self.budget is not None and int(n.sum()) + len(alive) > self.budget:
            return None
        return pairs(alive, np.array([done]))

    def rank(self, errors: Table) -> Int64:
        return ranking(errors)

    def _dropped(self, errors: Table, classes: int) -> np.ndarray:
        """(A,) whether each of the living classes is behind for sure; errors (A, n), no NaN."""
        best = leader(errors)
        difference, variance, n = paired(errors, best)
        rivals = np.arange(len(errors)) != best
        return rivals & (difference > self._margin(variance, rivals, int(n[best]), classes))

    def _margin(self, variance: Float64, rivals: np.ndarray, n: int, classes: int) -> Float64:
        if n < 2:
            return np.full(len(variance), np.inf)
        pooled = variance[rivals].mean()
        degrees = self.prior + n - 1
        shrunk = (self.prior * pooled + (n - 1) * variance) / degrees
        looks = max(1, self.draws - self.start)
        delta = (1.0 - self.confidence) / ((classes - 1) * looks)
        margin: Float64 = np.sqrt(shrunk / n) * _student_quantile(1.0 - delta, degrees)
        return margin


@lru_cache(maxsize=4096)
def _student_quantile(probability: float, degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
