"""Error prediction: errors of all classes from the features of one image, without evaluating them.

An amortised regression of low rank, for each draw j that is probed at the mean prompt,

    ê_jk = ⟨f_j(x), h(c_k)⟩ + ⟨b_j, h(c_k)⟩ + β_j · ê¹_jk

with x the network's features on all probed draws, c_k the embedding of class k and ê¹_jk its
first-order error. f and h are small perceptrons on principal components. Errors are in units of
their standard deviation over classes on that draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.support.types import Float64

Floats = NDArray[np.float32]
FEATURES_PER_CHUNK = 1024
"""Features whose axes are copied to single precision at a time; bounds peak memory."""
IMAGE_LAYERS, CLASS_LAYERS = "image", "class"
"""Names of the two perceptrons among the arrays of a fit."""


@dataclass(frozen=True)
class FeatureProjection:
    """Whitened principal components of an image's features.

    Args:
        mean, scale: (F,) of each feature over the images of the fit.
        axes: (F, C) components, divided by their standard deviation; in half precision, as they
            are by far the largest part of a fit.
    """

    mean: Floats
    scale: Floats
    axes: NDArray[np.float16]

    def __call__(self, features: Floats) -> Floats:
        """(N, F) -> (N, C)."""
        whitened: Floats = (features - self.mean) / self.scale
        result: Floats = np.zeros((len(features), self.axes.shape[1]), np.float32)
        for first in range(0, len(self.axes), FEATURES_PER_CHUNK):
            part = slice(first, first + FEATURES_PER_CHUNK)
            result += whitened[:, part] @ self.axes[part].astype(np.float32)
        return result

    @staticmethod
    def of(features: Floats, components: int) -> FeatureProjection:
        """The projection on the first components of (N, F) features, N at least 2."""
        mean = features.mean(axis=0)
        scale: Floats = features.std(axis=0) + np.float32(1e-4)
        whitened = (features - mean) / scale
        # from the (N, N) products: there are many more features than images
        values, vectors = np.linalg.eigh((whitened @ whitened.T).astype(np.float64))
        keep = np.flatnonzero(values > values[-1] * 1e-9)[::-1][: min(components, len(values) - 1)]
        deviation = np.sqrt(values[keep]).astype(np.float32)
        axes = whitened.T @ (vectors[:, keep] / deviation).astype(np.float32)
        # a unit component has the standard deviation √(λ/N)
        axes *= (np.sqrt(len(features)) / deviation).astype(np.float32)
        return FeatureProjection(mean, scale, axes.astype(np.float16))


def perceptron(arrays: Mapping[str, NDArray[Any]], name: str, inputs: Floats) -> Floats:
    """(N, C) -> (N, R): linear, GELU (Hendrycks and Gimpel 2016), linear.

    Args:
        arrays: of the fit; NAME_w1 (H, C), NAME_b1 (H,), NAME_w2 (R, H), NAME_b2 (R,).
        name: name of the perceptron.
        inputs: (N, C).
    """
    from scipy.special import erf

    hidden = inputs @ arrays[f"{name}_w1"].T + arrays[f"{name}_b1"]
    hidden = hidden * (0.5 * (1 + erf(hidden / np.sqrt(2)))).astype(np.float32)
    result: Floats = hidden @ arrays[f"{name}_w2"].T + arrays[f"{name}_b2"]
    return result


class ErrorPredictor:
    """Prediction of all classes' errors, from the arrays of a fit.

    Args:
        arrays: see `diffcls.classifiers.screen_fit.fit`.
        components: (K, C) of the classes' embeddings, on the axes of the fit.

    Attributes:
        embedding: (K, R) h(c_k) of every class.
        unit: (D,) standard deviation of the errors over classes.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], components: Floats) -> None:
        self._arrays = arrays
        self.unit: Floats = arrays["unit"]
        self._project = FeatureProjection(arrays["mean"], arrays["scale"], arrays["axes"])
        self.embedding = perceptron(arrays, CLASS_LAYERS, components)
        # (D, K) the part that does not depend on the image
        self._offset = arrays["offset_w"] @ self.embedding.T + arrays["offset_b"][:, None]

    def errors(self, features: Floats, first_order: Floats, at_mean: Floats) -> Float64:
        """(K,) predicted errors, the mean over the probed draws, in standard deviations.

        Args:
            features: (F,) of one image.
            first_order: (D, K) first-order errors on the probed draws.
            at_mean: (D,) errors at the mean prompt.
        """
        draws = len(at_mean)
        rank = self.embedding.shape[1]
        factors = perceptron(self._arrays, IMAGE_LAYERS, self._project(features[None]))
        # (1, D·R) -> (D, R)
        factors = factors.reshape(draws, rank) / np.float32(np.sqrt(rank))
        slope = (first_order - at_mean[:, None]) / self.unit[:, None]
        predicted = (
            factors @ self.embedding.T + self._offset + self._arrays["beta"][:, None] * slope
        )
        return predicted.mean(axis=0, dtype=np.float64)
