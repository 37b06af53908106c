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
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcls.classifiers.screen_measurement import MeanProbes, ScreenMeasurement, finite_rows
from diffcls.classifiers.screen_regression import MAX_WEIGHT, WEIGHT_SCALE, Measured, train
from diffcls.data.dataset import Item
from diffcls.search.error_prediction import ErrorPredictor
from diffcls.search.learned import Learned, ScreenFit
from diffcls.support.cache import Arrays
from diffcls.support.errors import DataError
from diffcls.support.notices import warn
from diffcls.support.seeding import keyed_generator
from diffcls.support.types import Float64, Int64

Floats = NDArray[np.float32]
PROMISING_CLASSES = 64
"""Classes of each image, of the lowest predicted errors, that are measured for the second fit."""
CALIBRATION_SHARE, MAX_CALIBRATION_IMAGES = 0.25, 200
RESIDUAL_SHARE, MAX_RESIDUAL_IMAGES = 0.125, 100
MAX_OF_CARRIED_FIT = MAX_RESIDUAL_IMAGES + MAX_CALIBRATION_IMAGES
"""Images that a fit of other classes is completed with, at most."""
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
    def of(items: tuple[Item, ...]) -> Parts:
        """The parts of all images, which are in random order."""
        calibration = min(MAX_CALIBRATION_IMAGES, int(len(items) * CALIBRATION_SHARE))
        residual = min(MAX_RESIDUAL_IMAGES, int(len(items) * RESIDUAL_SHARE))
        first = len(items) - calibration - residual
        return Parts(items[:first], items[first : first + residual], items[first + residual :])

    @staticmethod
    def without_regression(items: tuple[Item, ...]) -> Parts:
        """The parts of images on which no regression is fitted, in the same proportion."""
        share = RESIDUAL_SHARE / (RESIDUAL_SHARE + CALIBRATION_SHARE)
        residual = min(MAX_RESIDUAL_IMAGES, int(len(items) * share))
        return Parts((), items[:residual], items[residual:][:MAX_CALIBRATION_IMAGES])


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


@dataclass(frozen=True)
class MeasuredImages:
    """N images of a fit with their measurements.

    Args:
        x0: (N, C, h, w) images as the denoiser receives them.
        probes: at the mean prompt.
        measured: errors of some classes.
    """

    x0: Tensor
    probes: MeanProbes
    measured: Measured

    def finite(self) -> MeasuredImages:
        """The same without images of which a value is not finite; a warning counts them.

        Raises:
            DataError: if no image is left.
        """
        probes, measured = self.probes, self.measured
        whole = finite_rows(probes.first_order, probes.features, measured.errors)
        if whole.all():
            return self
        warn_of_losses(int((~whole).sum()), len(whole), "its errors are not finite")
        return MeasuredImages(
            self.x0[torch.from_numpy(whole)],
            MeanProbes(probes.first_order[whole], probes.features[whole]),
            Measured(measured.classes[whole], measured.errors[whole], measured.random),
        )


def warn_of_losses(lost: int, images: int, reason: str) -> None:
    """Warn of images that a fit goes on without.

    Args:
        lost: their number.
        images: number of all.
        reason: why the last of them is left out.

    Raises:
        DataError: if they are all.
    """
    if lost == images:
        raise DataError(
            "no image of the fit can be scored",
            given=reason,
            allowed="images that the model scores",
        )
    warn(f"{lost} of {images} images of the fit are left out: {reason}")


def fit_regression(
    measurement: ScreenMeasurement,
    search: Learned,
    items: tuple[Item, ...],
    components: Floats,
    seed: int,
) -> Arrays:
    """The regression: arrays of `diffcls.search.error_prediction.ErrorPredictor`."""
    images = _measured_at_random(measurement, search, items, "regression", seed)
    arrays = _trained(images, components, seed)
    if images.measured.random < len(components):
        predictor = ErrorPredictor(arrays, components)
        images = _with_promising(measurement, search, images, predictor)
        arrays = _trained(images, components, seed)
    return arrays


def _trained(images: MeasuredImages, components: Floats, seed: int) -> Arrays:
    probes = images.probes
    slopes = probes.first_order - probes.at_mean[:, :, None]
    return train(probes.features, slopes, components, images.measured, seed)


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
    images = _measured_at_random(measurement, search, items, "residual", seed)
    images = _with_promising(measurement, search, images, predictor)
    probes, measured = images.probes, images.measured
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


def _measured_at_random(
    measurement: ScreenMeasurement,
    search: Learned,
    items: tuple[Item, ...],
    purpose: str,
    seed: int,
) -> MeasuredImages:
    """The images, with errors of random classes."""
    x0 = measurement.latents(items)
    probes = measurement.at_mean(x0, search.probed)
    classes = measurement.method.prompts.n_classes
    random = _random_classes(len(items), classes, search.fit_classes, purpose, seed)
    errors = np.stack(measurement.errors(x0, [*random], search.probed))
    return MeasuredImages(x0, probes, Measured(random, errors, random.shape[1])).finite()


def _with_promising(
    measurement: ScreenMeasurement,
    search: Learned,
    images: MeasuredImages,
    predictor: ErrorPredictor,
) -> MeasuredImages:
    """The images, with errors of each one's most promising classes beside those at random."""
    measured = images.measured
    predicted = _predicted(predictor, images.probes)
    np.put_along_axis(predicted, measured.classes, np.inf, axis=1)
    count = min(PROMISING_CLASSES, predicted.shape[1] - measured.classes.shape[1])
    promising = np.argsort(predicted, axis=1, kind="stable")[:, :count].astype(np.int64)
    if not count:
        return images
    errors = np.stack(measurement.errors(images.x0, [*promising], search.probed))
    both = Measured(
        np.concatenate([measured.classes, promising], axis=1),
        np.concatenate([measured.errors, errors], axis=1),
        measured.random,
    )
    return MeasuredImages(images.x0, images.probes, both).finite()


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
