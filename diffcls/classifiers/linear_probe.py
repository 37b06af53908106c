"""Linear probe: multinomial logistic regression on standardised features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Candidate inverse regularisation strengths C."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """Fitted linear probe: multinomial logistic regression on standardised features.

    Args:
        mean, scale: (D,) of the features.
        weight: (K, D).
        bias: (K,).
    """

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats

    def __call__(self, features: Floats) -> Floats:
        """(B, D) -> (B, K) log-probabilities up to a constant."""
        logits: Floats = ((features - self.mean) / self.scale) @ self.weight.T + self.bias
        return logits


def fit_probe(features: Floats, labels: NDArray[Any], classes: int, strength: float) -> Probe:
    """Fit scikit-learn's StandardScaler and LogisticRegression; returns them as arrays.

    Args:
        features: (N, D).
        labels: (N,) of K classes.
        classes: K.
        strength: C, the inverse regularisation strength.
    """
    model = _pipeline(strength).fit(features, labels)
    scaler, regression = model[0], model[1]
    weight = np.zeros((classes, features.shape[1]))
    # a class without an image is never predicted
    bias = np.full(classes, regression.intercept_.min() - 1e3)
    if len(regression.classes_) == 2:  # binary: one row only, of the second class
        weight[regression.classes_] = np.stack([-regression.coef_[0], regression.coef_[0]]) / 2
        bias[regression.classes_] = np.array([-1, 1]) * regression.intercept_[0] / 2
    else:
        weight[regression.classes_] = regression.coef_
        bias[regression.classes_] = regression.intercept_
    return Probe(scaler.mean_, scaler.scale_, weight, bias)


def _pipeline(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500, tol=1e-3))


def choose_strength(features: Floats, labels: NDArray[Any]) -> float:
    """The C of the best accuracy in threefold cross-validation."""
    from sklearn.model_selection import cross_val_score

    scores = [cross_val_score(_pipeline(c), features, labels, cv=3).mean() for c in STRENGTHS]
    return STRENGTHS[int(np.argmax(scores))]
