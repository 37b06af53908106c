"""Linear probe: multinomial logistic regression on features of a frozen network.

Shared by the methods whose features come from the diffusion model and from a backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffcls.classifiers.base import Built
from diffcls.classifiers.fitting import Fitting
from diffcls.classifiers.one_pass import BatchMethod, Score
from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import ModelCard
from diffcls.support.cache import Arrays

if TYPE_CHECKING:
    from torch import Tensor

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Candidate inverse regularisation strengths C."""
SELECTION_STRENGTH = 1e-2
"""C where it is not chosen."""
FOLDS = 3
"""Of the cross-validation by which C is chosen."""

Floats = NDArray[np.float64]


def built(
    method: BatchMethod,
    card: ModelCard,
    prompts: PromptSet,
    defined_by: Mapping[str, Any],
    img_size: int,
    dtype: Any,
    device: str,
    fitting: Fitting,
) -> Built:
    """A linear probe and the facts for its row; see `diffcls.classifiers.base.Built`.

    Args:
        defined_by: all that defines the fit, in plain JSON types.
        dtype: of the network, as torch names it.
        fitting: cost of the fit.
    """
    return Built(
        method=method,
        card=card,
        prompts=prompts,
        search_options=defined_by,
        img_size=img_size,
        dtype=str(dtype).removeprefix("torch."),
        device=device,
        most_evaluations=method.evaluations,
        supervision="labels",
        setting="default",
        fitting=fitting,
    )


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
    model = pipeline(strength).fit(features, labels)
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


def pipeline(strength: float) -> Any:
    """scikit-learn's standardisation and logistic regression, not fitted."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500, tol=1e-3))


def choose_strength(features: Floats, labels: NDArray[Any]) -> float:
    """The C of the best accuracy in threefold cross-validation.

    Args:
        features: (N, D).
        labels: (N,).
    """
    from sklearn.model_selection import cross_val_score

    if np.bincount(labels).max() < FOLDS:  # no class has an image for each fold
        return SELECTION_STRENGTH
    scores = [cross_val_score(pipeline(c), features, labels, cv=FOLDS).mean() for c in STRENGTHS]
    return STRENGTHS[int(np.argmax(scores))]


def arrays_of(probe: Probe) -> Arrays:
    """The probe as it is stored."""
    return {name: np.asarray(value) for name, value in vars(probe).items()}


def probe_of(fit: Arrays) -> Probe:
    """A stored probe."""
    return Probe(fit["mean"], fit["scale"], fit["weight"], fit["bias"])


def scorer(probe: Probe, features_of: Callable[[Tensor], Tensor]) -> Score:
    """The scoring function of a probe.

    Args:
        probe: the fitted probe.
        features_of: pixels (B, 3, H, W) -> features (B, D).
    """

    def score(pixels: Tensor, _: Sequence[str]) -> Tensor:
        import torch

        return torch.from_numpy(probe(features_of(pixels).cpu().double().numpy()))

    return score


def stack(parts: Sequence[Tensor]) -> Floats:
    """Parts (B, D) -> (N, D) in double precision."""
    import torch

    stacked: Floats = torch.cat(list(parts)).cpu().double().numpy()
    return stacked


def stack_labels(parts: Sequence[Tensor]) -> NDArray[np.int64]:
    """Parts (B,) -> (N,)."""
    import torch

    labels: NDArray[np.int64] = torch.cat(list(parts)).numpy()
    return labels
