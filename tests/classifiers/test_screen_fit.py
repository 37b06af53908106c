"""Fit of a learned screen on the analytic denoiser: precision, failed images, shares of images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from helpers.screened import DRAWS, SIDE, B, K, items, method
from PIL import Image
from torch import Tensor

from diffcls.classifiers.learned_screen import calibrated, fit_prediction
from diffcls.classifiers.screen_fit import Parts
from diffcls.classifiers.screen_measurement import ScreenMeasurement
from diffcls.data.dataset import Item
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.search.learned import Learned
from diffcls.support.cache import Arrays
from diffcls.support.errors import DataError

SEARCH = Learned(DRAWS, candidates=3, looks=6, fit_images=50, fit_classes=10)
PARTS = Parts.of(tuple(items(60)))


def test_no_image_has_two_uses() -> None:
    images = tuple(items(60))
    for parts in (Parts.of(images), Parts.without_regression(images)):
        used = [item.image_id for part in vars(parts).values() for item in part]
        assert len(used) == len(set(used)) == 60
    assert not Parts.without_regression(images).regression
    assert len(Parts.without_regression(images).residual) == 20
    many = Parts.without_regression(tuple(items(900)))
    assert (len(many.residual), len(many.calibration)) == (100, 200)


# ---- half precision -----------------------------------------------------------------------------


class Overflows(GaussianDenoiser):
    """Predictions of odd rows are not finite in half precision; two halves of a batch fit."""

    repeated_rows = 0

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        out = super().predict(x_t, index, cond)
        if self.dtype == torch.float32:
            if len(out) == B:
                raise torch.OutOfMemoryError("of single precision")
            self.repeated_rows += len(out)
            return out
        odd = torch.arange(len(out)).view(-1, 1, 1, 1) % 2 == 1
        return torch.where(odd, float("inf"), out)

    @contextmanager
    def float32(self) -> Iterator[None]:
        self.dtype = torch.float32
        yield
        self.dtype = torch.float16


def test_errors_that_overflow_are_repeated_in_single_precision() -> None:
    draws, classes = (1, 7), [np.array([k % K, (k + 5) % K]) for k in range(9)]

    def errors(**options: Any) -> tuple[ScreenMeasurement, np.ndarray]:
        measurement = ScreenMeasurement(method(SEARCH.race, **options))
        x0 = measurement.latents(items(9))
        return measurement, np.stack(measurement.errors(x0, classes, draws)).ravel()

    _, single = errors()
    _, half = errors(dtype=torch.float16)
    measurement, found = errors(kind=Overflows, dtype=torch.float16)
    # rows of batches of 16: the odd ones are those of single precision
    assert np.array_equal(found[::2], half[::2])
    assert np.allclose(found[1::2], single[1::2], rtol=1e-6, atol=0)
    assert not np.array_equal(half, single)
    assert measurement.evaluations == 36 + 18
    assert measurement.method.batch_size == B  # halved for the repetition alone


def test_probes_that_overflow_are_repeated_in_single_precision() -> None:
    def probes(**options: Any) -> tuple[np.ndarray, np.ndarray]:
        measurement = ScreenMeasurement(method(SEARCH.race, **options))
        found = measurement.at_mean(measurement.latents(items(9)), SEARCH.probed)
        return found.first_order, found.features

    for single, found in zip(probes(), probes(kind=Overflows, dtype=torch.float16), strict=True):
        assert np.isfinite(found).all() and np.allclose(found, single, rtol=1e-2, atol=1e-2)


# ---- images that fail ---------------------------------------------------------------------------


class NoErrors(GaussianDenoiser):
    """Errors of black images are not finite, in single precision either."""

    def encode_images(self, images: Tensor) -> Tensor:
        black = (images == -1).flatten(1).all(dim=1).view(-1, 1, 1, 1)
        return torch.where(black, -1e30, images)

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        out = super().predict(x_t, index, cond)
        dark = (x_t < -1e20).flatten(1).any(dim=1).view(-1, 1, 1, 1)
        return torch.where(dark, float("nan"), out)


BLACK = Item("black", 0, lambda: Image.new("RGB", (SIDE, SIDE)))


def fit(kind: type[GaussianDenoiser], parts: Parts) -> Arrays:
    measurement = ScreenMeasurement(method(SEARCH.race, kind=kind))
    arrays = fit_prediction(measurement, SEARCH, parts, seed=0)
    return calibrated(measurement, SEARCH, parts.calibration, arrays)


def test_a_fit_goes_on_without_images_whose_errors_are_not_finite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = fit(GaussianDenoiser, PARTS)
    with_black = Parts(*((*part, BLACK) for part in vars(PARTS).values()))
    found = fit(NoErrors, with_black)
    assert set(found) == set(whole)
    for name in set(whole) - {"evaluations"}:
        assert np.array_equal(found[name], whole[name]), name
    shown = capsys.readouterr().err
    for part in vars(PARTS).values():
        assert f"1 of {len(part) + 1} images of the fit are left out" in shown


@pytest.mark.slow
def test_a_fit_without_any_image_that_can_be_scored_is_refused() -> None:
    for name in vars(PARTS):
        parts = Parts(**{**vars(PARTS), name: (BLACK,)})
        with pytest.raises(DataError, match=r"no image of the fit can be scored.*not finite"):
            fit(NoErrors, parts)
