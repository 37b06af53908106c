"""Fit of a learned screen on unlabelled images: its regression, and the belief on its residual.

On most images, errors of random classes are measured, a regression is fitted, errors of the classes
that it predicts to be best are measured as well, and it is fitted again. On further images its
residual is measured. The last images are for the calibration, see
`diffcls.classifiers.screen_calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffcls.classifiers.screen_measurement import MeanProbes, ScreenMeasurement
from diffcls.classifiers.screen_regression import MAX_WEIGHT, WEIGHT_SCALE, Measured, train
from diffcls.data.dataset import Item
from diffcls.search.error_prediction import ErrorPredictor
from diffcls.search.learned import Learned, ScreenFit
from diffcls.support.cache import Arrays
from diffcls.support.seeding import keyed_generator
from diffcls.support.types import Float64, Int64

Floats = NDArray[np.float32]
PROMISING_CLASSES = 64
"""Classes of each image, of the lowest predicted errors, that are measured for the second fit."""
CALIBRATION_SHARE, MAX_CALIBRATION_IMAGES = 0.25, 200
RESIDUAL_SHARE, MAX_RESIDUAL_IMAGES = 0.125, 100
RIDGE = 5.0
"""Ridge penalty of each image's residual weights, in measurements."""
LEAST_COVARIANCE = 1e-4


@dataclass(frozen=True)
class Parts:
    """The unlabelled images, by their use.

    Args:
        regression, residual, calibration: images.
    """

    regression: tuple[Item, ...]
    residual: tuple[Item, ...]
    calibration: tuple[Item, ...]

    @staticmethod
    def of(items: tuple[Item, ...], regression: bool = True) -> Parts:
        """The parts of all images, which are in random order.

        Args:
            items: the images.
            regression: whether a regression is fitted; otherwise its images are left out.
        """
        calibration = min(MAX_CALIBRATION_IMAGES, int(len(items) * CALIBRATION_SHARE))
        residual = min(MAX_RESIDUAL_IMAGES, int(len(items) * RESIDUAL_SHARE))
        first = len(items) - calibration - residual
        fitted = items[:first] if regression else ()
        return Parts(fitted, items[first : first + residual], items[first + residual :])


def evaluations_of_prediction(parts: Parts, search: Learned, classes: int) -> int:
    """Evaluations that regression and belief take."""
    measured = min(classes, search.fit_classes) + min(
        PROMISING_CLASSES, max(0, classes - search.fit_classes)
    )
    each = len(search.probed) * (3 + measured)
    return (len(parts.regression) + len(parts.residual)) * each


def evaluations_of_calibration(parts: Parts, search: Learned, classes: int) -> int:
    """About how many evaluations the calibration takes; a race takes about 3 a class."""
    each = 3 * len(search.probed) + min(search.looks, classes) + 3 * classes
    return len(parts.calibration) * each


def fit_regression(
    measurement: ScreenMeasurement,
    search: Learned,
    items: tuple[Item, ...],
    components: Floats,
    seed: int,
) -> Arrays:
    """The regression: arrays of `diffcls.search.error_prediction.ErrorPredictor`."""
    x0 = measurement.latents(items)
    probes = measurement.at_mean(x0, search.probed)
    random = _random_classes(len(items), len(components), search.fit_classes, "regression", seed)
    errors = np.stack(measurement.errors(x0, [*random], search.probed))
    slopes = probes.first_order - probes.at_mean[:, :, None]
    measured = Measured(random, errors, random.shape[1])
    arrays = train(probes.features, slopes, components, measured, seed)
    if random.shape[1] < len(components):
        predictor = ErrorPredictor(arrays, components)
        measured = _with_promising(measurement, search, x0, probes, measured, predictor)
        arrays = train(probes.features, slopes, components, measured, seed)
    return arrays


def fit_belief(
    measurement: ScreenMeasurement,
    search: Learned,
    items: tuple[Item, ...],
    predictor: ErrorPredictor,
    seed: int,
) -> Arrays:
    """Covariance and noise of the residual, see `diffcls.search.belief`.

    Returns:
        ``embedding`` (K, R), ``covariance`` (R, R), ``noise`` and ``shift``: the mean residual,
        of errors above the one at the mean prompt.
    """
    x0 = measurement.latents(items)
    probes = measurement.at_mean(x0, search.probed)
    classes = len(predictor.embedding)
    random = _random_classes(len(items), classes, search.fit_classes, "residual", seed)
    errors = np.stack(measurement.errors(x0, [*random], search.probed))
    measured = Measured(random, errors, random.shape[1])
    measured = _with_promising(measurement, search, x0, probes, measured, predictor)
    predicted = _predicted(predictor, probes)
    embedding = _whitened(predictor.embedding)
    # of the first draw, the one on which single classes are measured: (N, S)
    above = (measured.errors[:, :, 0] - probes.at_mean[:, :1]) / predictor.unit[0]
    expected = np.take_along_axis(predicted, measured.classes, axis=1)
    residual = above - expected
    weight = np.exp(-(expected - predicted.mean(axis=1, keepdims=True)) / WEIGHT_SCALE)
    weight = np.minimum(weight, MAX_WEIGHT)
    shift = float((residual * weight).sum() / weight.sum())
    covariance, noise = _residual_model(embedding, measured.classes, residual - shift, weight)
    return {
        "embedding": embedding,
        "covariance": covariance,
        "noise": np.asarray(noise),
        "shift": np.asarray(shift),
    }


def _random_classes(images: int, classes: int, count: int, purpose: str, seed: int) -> Int64:
    """(N, S) classes of each image, at random and without repetition."""
    generator = keyed_generator(seed, f"learned screen, {purpose}")
    chosen = [generator.permutation(classes)[:count] for _ in range(images)]
    return np.stack(chosen).astype(np.int64)


def _with_promising(
    measurement: ScreenMeasurement,
    search: Learned,
    x0: Tensor,
    probes: MeanProbes,
    measured: Measured,
    predictor: ErrorPredictor,
) -> Measured:
    """The measurements, and those of each image's most promising classes beside them."""
    predicted = _predicted(predictor, probes)
    np.put_along_axis(predicted, measured.classes, np.inf, axis=1)
    count = min(PROMISING_CLASSES, predicted.shape[1] - measured.classes.shape[1])
    promising = np.argsort(predicted, axis=1, kind="stable")[:, :count].astype(np.int64)
    if not count:
        return measured
    errors = np.stack(measurement.errors(x0, [*promising], search.probed))
    return Measured(
        np.concatenate([measured.classes, promising], axis=1),
        np.concatenate([measured.errors, errors], axis=1),
        measured.random,
    )


def _predicted(predictor: ErrorPredictor, probes: MeanProbes) -> Float64:
    """(N, K) predicted errors."""
    rows = zip(probes.features, probes.first_order, probes.at_mean, strict=True)
    return np.stack([predictor.errors(*row) for row in rows])


def _whitened(embedding: Floats) -> Float64:
    """(K, R + 1) the embedding with uncorrelated columns of unit variance, and a constant one."""
    centred = embedding.astype(np.float64) - embedding.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    keep = values > 1e-6 * values[0]
    return np.column_stack([left[:, keep] * np.sqrt(len(centred)), np.ones(len(centred))])


def _residual_model(
    embedding: Float64, classes: Int64, residual: Float64, weight: Float64
) -> tuple[Float64, float]:
    """Second moment of the residual's weights over images, and mean square of what they leave."""
    weights, left = [], []
    for chosen, missed, importance in zip(classes, residual, weight, strict=True):
        rows = embedding[chosen]
        normal = (rows * importance[:, None]).T @ rows + RIDGE * np.eye(rows.shape[1])
        w = np.linalg.solve(normal, (rows * importance[:, None]).T @ missed)
        weights.append(w)
        left.append(np.average((missed - rows @ w) ** 2, weights=importance))
    stacked = np.stack(weights)
    covariance = stacked.T @ stacked / len(stacked) + LEAST_COVARIANCE * np.eye(stacked.shape[1])
    return covariance, float(np.mean(left))


def screen_fit(arrays: Mapping[str, NDArray[Any]]) -> ScreenFit:
    """The fit from its arrays; one that is not calibrated yet never ends a screening."""
    predictor = ErrorPredictor(arrays, arrays["components"])
    return ScreenFit(
        predictor,
        arrays["embedding"],
        arrays["covariance"],
        float(arrays["noise"]),
        float(arrays["shift"]),
        float(predictor.unit[0]),
        float(arrays.get("caution", np.asarray(math.inf))),
        float(arrays.get("survival", np.asarray(0.0))),
    )
