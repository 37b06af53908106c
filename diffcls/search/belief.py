"""Belief on the errors of all classes on one draw: a Gaussian, updated by every measured error.

    e = μ + H·w + ν,   w ~ N(0, Σ),   ν_k ~ N(0, σ²)

μ is the prediction, H (K, R) the classes' embeddings: if a class is worse than predicted, so are
similar ones. This is Bayesian linear regression of the prediction's residual (Bishop 2006, section
3.3), one measurement at a time, and a linear bandit with a learned prior (Li et al. 2010).
"""

from __future__ import annotations

import numpy as np

from diffcls.support.types import Float64, Int64


class Belief:
    """Belief on one image's errors.

    Args:
        mean: (K,) predicted errors μ.
        embedding: (K, R) H.
        covariance: (R, R) Σ.
        noise: σ², variance of what the embedding does not explain.

    Attributes:
        mean: (K,) expected errors of classes that are not measured.
        errors: (K,) measured errors, NaN for all others.
    """

    def __init__(
        self, mean: Float64, embedding: Float64, covariance: Float64, noise: float
    ) -> None:
        self.mean = mean.copy()
        self.errors: Float64 = np.full(len(mean), np.nan)
        self._embedding, self._covariance, self._noise = embedding, covariance.copy(), noise
        self._variance: Float64 = ((embedding @ covariance) * embedding).sum(axis=1)

    @property
    def deviation(self) -> Float64:
        """(K,) standard deviation of each class that is not measured."""
        deviation: Float64 = np.sqrt(np.maximum(self._variance, 0.0) + self._noise)
        return deviation

    def measure(self, k: int, error: float) -> None:
        """Take the measured error of class k.

        With u = Σ·h_k and s = σ² + h_kᵀΣh_k, the gain is u/s (Kalman 1960).
        """
        along = self._covariance @ self._embedding[k]
        total = self._noise + float(self._embedding[k] @ along)
        shared = self._embedding @ along
        self.mean += shared * ((error - self.mean[k]) / total)
        self._variance -= shared**2 / total
        self._covariance -= np.outer(along, along) / total
        self.errors[k] = error

    def most_promising(self, count: int, optimism: float) -> Int64:
        """At most `count` classes, not measured yet, of the lowest mean − optimism · deviation."""
        rest = np.flatnonzero(np.isnan(self.errors))
        bound = (self.mean - optimism * self.deviation)[rest]
        return rest[np.argsort(bound, kind="stable")[:count]].astype(np.int64)

    def margin(self) -> float:
        """By how many standard deviations any other class must err to beat the best measured one.

        Infinite if all classes are measured; negative if another class is expected to be better.
        """
        rest = np.isnan(self.errors)
        if not rest.any():
            return np.inf
        margins = (self.mean[rest] - np.nanmin(self.errors)) / self.deviation[rest]
        return float(margins.min())
