"""FID, KID, Inception Score, precision and recall against torchmetrics and torch-fidelity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from diffcls.metrics.generative import (
    Statistics,
    fid,
    inception_score,
    kid,
    precision_recall,
    too_few,
)
from diffcls.support.errors import RecordError, UsageError

D = 12


def features(seed: int, count: int = 400, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Correlated features (n, D), in float32 as networks return them."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, D)) @ np.random.default_rng(9).standard_normal((D, D))
    return (mixed * scale / 3 + shift).astype(np.float32)


class Identity(torch.nn.Module):
    """A feature extractor that returns its input, so the libraries measure given features."""

    num_features = D

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def as_images(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x)[:, :, None, None]


def theirs_by_torchmetrics(metric: object, x: np.ndarray, y: np.ndarray) -> float:
    """A torchmetrics distance between real features x and generated features y."""
    assert isinstance(metric, FrechetInceptionDistance | KernelInceptionDistance)
    metric.update(as_images(x), real=True)
    metric.update(as_images(y), real=False)
    value = metric.compute()
    return float(value[0] if isinstance(value, tuple) else value)


REAL, GENERATED = features(0), features(1, 300, shift=0.3, scale=1.2)


def test_fid_agrees_with_both_libraries():
    mine = fid(Statistics.of(REAL), Statistics.of(GENERATED))
    statistics = (fid_features_to_statistics(torch.from_numpy(x)) for x in (REAL, GENERATED))
    theirs = fid_statistics_to_metric(*statistics, verbose=False)
    assert mine == pytest.approx(theirs["frechet_inception_distance"], abs=1e-3)
    metric = FrechetInceptionDistance(feature=Identity(), normalize=True)
    assert mine == pytest.approx(theirs_by_torchmetrics(metric, REAL, GENERATED), abs=1e-3)


def test_kid_agrees_with_both_libraries():
    x, y = REAL[:300], GENERATED
    mine = kid(x, y, size=300)
    theirs = kid_features_to_metric(
        torch.from_numpy(x),
        torch.from_numpy(y),
        kid_subsets=1,
        kid_subset_size=300,
        verbose=False,
    )
    assert mine.value == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-3)
    metric = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=300, normalize=True)
    assert mine.value == pytest.approx(theirs_by_torchmetrics(metric, x, y), abs=1e-3)
    assert math.isnan(mine.stderr)  # both sets are used whole: there is no second subset


def test_inception_score_agrees_with_both_libraries():
    logits = 2 * REAL
    mine = inception_score(logits, splits=1)
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=1)
    assert mine.value == pytest.approx(theirs["inception_score_mean"], abs=1e-3)

    # torchmetrics converts images to bytes first, so the extractor ignores them
    class FixedLogits(torch.nn.Module):
        num_features = D

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(logits)[: len(x)]

    metric = InceptionScore(feature=FixedLogits(), splits=1, normalize=True)
    metric.update(torch.zeros(len(logits), 3, 2, 2))
    assert mine.value == pytest.approx(float(metric.compute()[0]), abs=1e-3)


def test_precision_and_recall_agree_with_torch_fidelity():
    mine = precision_recall(REAL, GENERATED, neighbours=3)
    theirs = prc_features_to_metric(
        torch.from_numpy(REAL),
        torch.from_numpy(GENERATED),
        prc_neighborhood=3,
        prc_batch_size=100,
        verbose=False,
        save_cpu_ram=False,
    )
    # torch-fidelity's first input is the generated set, so the two names may be exchanged
    assert {round(v, 6) for v in mine} == {
        round(float(theirs[name]), 6) for name in ("precision", "recall")
    }
    # generated features spread wider than the real ones, so recall exceeds precision
    assert mine[0] < mine[1]


def test_fid_of_two_gaussians_is_the_closed_form():
    # diagonal covariances: ‖μ − μ′‖² + Σ (√v − √v′)²
    v, w = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.25])
    one = Statistics(np.zeros(3), np.diag(v), 100)
    other = Statistics(np.array([1.0, -2.0, 0.0]), np.diag(w), 100)
    assert fid(one, other) == pytest.approx(5 + ((np.sqrt(v) - np.sqrt(w)) ** 2).sum())
    assert fid(one, other) == pytest.approx(fid(other, one))


def test_mean_and_covariance_are_those_of_numpy():
    statistics = Statistics.of(REAL)
    np.testing.assert_allclose(statistics.mean, REAL.astype(float).mean(axis=0))
    np.testing.assert_allclose(statistics.covariance, np.cov(REAL.astype(float), rowvar=False))
    assert statistics.count == 400


def test_distance_of_a_set_to_itself_is_zero():
    statistics = Statistics.of(REAL)
    assert 0 <= fid(statistics, statistics) < 1e-4
    # fewer images than features: the covariance is singular, and the root must still be right
    few = Statistics.of(REAL[:5])
    assert 0 <= fid(few, few) < 1e-4
    assert precision_recall(REAL, REAL) == (1.0, 1.0)


def test_kid_of_two_halves_is_zero_within_its_standard_error():
    estimates = []
    for split in range(100):
        x = features(5, 400)[np.random.default_rng(split).permutation(400)]
        estimates.append(kid(x[:200], x[200:], subsets=30, size=100, seed=split))
    values = np.array([estimate.value for estimate in estimates])
    # unbiased, so about half of the estimates are negative
    assert 25 < (values > 0).sum() < 75
    assert np.mean([abs(e.value) < 2 * e.stderr for e in estimates]) >= 0.95


@pytest.mark.parametrize("size", [50, 100])
def test_standard_error_of_kid_is_its_deviation_over_independent_sets(size: int):
    estimates = [
        kid(features(s, 200), features(1000 + s, 200, shift=0.5), subsets=30, size=size, seed=s)
        for s in range(100)
    ]
    true = np.std([estimate.value for estimate in estimates], ddof=1)
    # the standard deviation of 100 values has a relative error of 7 %
    assert np.mean([estimate.stderr for estimate in estimates]) == pytest.approx(true, rel=0.21)


def test_standard_error_of_kid_does_not_vanish_with_the_number_of_subsets():
    few, many = (kid(REAL, GENERATED, subsets=n, size=200).stderr for n in (50, 800))
    assert many > 0.7 * few


def test_kid_of_class_balanced_sets_is_unbiased_where_the_classes_are_given():
    # distant classes: two images of a balanced set share a class less often than independent ones
    rng = np.random.default_rng(0)
    centres, labels = 2 * np.eye(10), np.arange(200) % 10
    values: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(30):
        x, y = (centres[labels] + 0.1 * rng.standard_normal((200, 10)) for _ in range(2))
        for known in (True, False):
            classes = (labels, labels) if known else None
            estimate = kid(x, y, subsets=20, size=80, seed=seed, classes=classes)
            values[known].append(estimate.value)
    error = np.std(values[True]) / np.sqrt(30)
    assert abs(np.mean(values[True])) < 3 * error
    assert np.mean(values[False]) < -3 * error


def test_subsets_depend_only_on_their_seed():
    torch.manual_seed(1)
    first = kid(REAL, GENERATED, subsets=5, size=50, seed=3)
    torch.manual_seed(2)
    np.random.default_rng().random()
    assert kid(REAL, GENERATED, subsets=5, size=50, seed=3) == first
    assert kid(REAL, GENERATED, subsets=5, size=50, seed=4) != first


def test_inception_score_lies_between_one_and_the_number_of_classes():
    certain = np.kron(np.eye(4), np.ones((25, 1))) * 500  # four balanced classes, all certain
    assert inception_score(certain, splits=1).value == pytest.approx(4.0)
    assert inception_score(np.zeros((50, 4)), splits=5).value == pytest.approx(1.0)
    one_class = np.tile([900.0, 0, 0, 0], (40, 1))
    assert inception_score(one_class, splits=2).value == pytest.approx(1.0)


def test_inception_score_has_a_standard_error_over_its_parts():
    estimate = inception_score(3 * REAL, splits=10, seed=1)
    assert estimate == inception_score(3 * REAL, splits=10, seed=1)
    assert 0 < estimate.stderr < 0.2 * estimate.value


def test_distant_images_lose_precision_and_uniform_images_lose_recall():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((500, 4))
    far = rng.standard_normal((500, 4)) + 20
    assert precision_recall(real, far) == (0.0, 0.0)
    narrow = 0.05 * rng.standard_normal((500, 4))
    precision, recall = precision_recall(real, narrow)
    assert precision == 1.0
    assert recall < 0.05


def test_too_few_images_for_fid_give_a_warning():
    assert too_few(1280, 128) is None
    assert "1,279 images on 128 features" in str(too_few(1279, 128))


@pytest.mark.parametrize("measure", [lambda x: Statistics.of(x), lambda x: inception_score(x, 1)])
def test_features_that_are_not_finite_are_refused(measure):
    bad = REAL.copy()
    bad[7, 3] = np.nan
    with pytest.raises(RecordError, match="image 7"):
        measure(bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Statistics.of(REAL[:1]), "too few"),
        (lambda: kid(REAL, GENERATED[:, :3]), "different widths"),
        (lambda: kid(REAL, GENERATED, size=1), "subsets or size out of range"),
        (lambda: inception_score(REAL, 0), "parts"),
        (lambda: inception_score(REAL, 401), "1 to 400"),
        (lambda: precision_recall(REAL[:3], GENERATED), "neighbours"),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()
