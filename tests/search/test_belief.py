"""Belief on errors: Bayesian linear regression in its closed form, and choices by its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct

from diffcls.search.belief import Belief
from diffcls.support.types import Float64

CLASSES, RANK, NOISE = 40, 6, 0.3


def problem(seed: int = 0) -> tuple[Float64, Float64, Float64, Float64]:
    """Mean, embedding, covariance, and errors that all have them."""
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(CLASSES, RANK))
    half = rng.normal(size=(RANK, RANK)) / RANK**0.5
    covariance, mean = half @ half.T, rng.normal(size=CLASSES)
    weights = half @ rng.normal(size=RANK)
    errors = mean + embedding @ weights + rng.normal(0, NOISE**0.5, CLASSES)
    return mean, embedding, covariance, errors


def measured(belief: Belief, errors: Float64, classes: list[int]) -> Belief:
    for k in classes:
        belief.measure(k, float(errors[k]))
    return belief


CHOSEN = [3, 17, 4, 39, 0, 21, 8, 11, 30, 2]


@pytest.mark.parametrize("count", [0, 1, 5, 10])
def test_belief_is_the_posterior_of_bayesian_linear_regression(count: int) -> None:
    mean, embedding, covariance, errors = problem()
    chosen = CHOSEN[:count]
    belief = measured(Belief(mean, embedding, covariance, NOISE), errors, chosen)
    # (Σ⁻¹ + HᵀH/σ²)⁻¹ and its product with Hᵀ(e − μ)/σ²
    rows = embedding[chosen]
    posterior = np.linalg.inv(np.linalg.inv(covariance) + rows.T @ rows / NOISE)
    weights = posterior @ rows.T @ (errors - mean)[chosen] / NOISE
    assert belief.mean == pytest.approx(mean + embedding @ weights, abs=1e-9)
    variance = ((embedding @ posterior) * embedding).sum(axis=1) + NOISE
    assert belief.deviation == pytest.approx(np.sqrt(variance), abs=1e-9)
    assert np.flatnonzero(~np.isnan(belief.errors)).tolist() == sorted(chosen)
    assert (belief.errors[chosen] == errors[chosen]).all()


def test_belief_is_a_gaussian_process_with_a_linear_kernel() -> None:
    mean, embedding, _, errors = problem(1)
    belief = measured(Belief(mean, embedding, np.eye(RANK), NOISE), errors, CHOSEN)
    kernel = DotProduct(sigma_0=0.0, sigma_0_bounds="fixed")
    process = GaussianProcessRegressor(kernel, alpha=NOISE, optimizer=None)
    process.fit(embedding[CHOSEN], (errors - mean)[CHOSEN])
    expected, deviation = process.predict(embedding, return_std=True)
    assert belief.mean == pytest.approx(mean + expected, abs=1e-9)
    # theirs is without the noise of the new measurement
    assert belief.deviation == pytest.approx(np.sqrt(deviation**2 + NOISE), abs=1e-9)


def test_order_of_measurements_does_not_matter() -> None:
    mean, embedding, covariance, errors = problem(2)
    orders = [CHOSEN, CHOSEN[::-1], sorted(CHOSEN)]
    one, *others = (
        measured(Belief(mean, embedding, covariance, NOISE), errors, order) for order in orders
    )
    for other in others:
        assert other.mean == pytest.approx(one.mean, abs=1e-9)
        assert other.deviation == pytest.approx(one.deviation, abs=1e-9)
        assert other.margin() == pytest.approx(one.margin(), abs=1e-9)


def test_arguments_are_not_changed() -> None:
    given = problem(3)
    before = [array.copy() for array in given]
    measured(Belief(*given[:3], NOISE), given[3], CHOSEN)
    for array, copy in zip(given, before, strict=True):
        assert np.array_equal(array, copy)


@pytest.mark.parametrize("optimism", [0.0, 1.0, 2.5])
def test_classes_of_the_lowest_bound_are_measured_and_none_twice(optimism: float) -> None:
    mean, embedding, covariance, errors = problem(4)
    belief = Belief(mean, embedding, covariance, NOISE)
    order: list[int] = []
    while len(chosen := belief.most_promising(3, optimism).tolist()):
        bound = belief.mean - optimism * belief.deviation
        expected = sorted(set(range(CLASSES)) - set(order), key=lambda k: bound[k])[:3]
        assert chosen == expected
        measured(belief, errors, chosen)
        order += chosen
    assert sorted(order) == list(range(CLASSES))
    assert belief.margin() == np.inf


def test_margin_is_that_of_the_closest_class_that_is_not_measured() -> None:
    mean, embedding, covariance, errors = problem(5)
    belief = Belief(mean, embedding, covariance, NOISE)
    for k in CHOSEN:
        belief.measure(k, float(errors[k]))
        best = min(errors[j] for j in range(CLASSES) if not np.isnan(belief.errors[j]))
        rest = [j for j in range(CLASSES) if np.isnan(belief.errors[j])]
        expected = min((belief.mean[j] - best) / belief.deviation[j] for j in rest)
        assert belief.margin() == pytest.approx(expected, abs=1e-12)
    # another class is expected to be better, by 3, and deviates by √(1 + 1)
    better = Belief(np.array([0.0, -3.0]), np.eye(2), np.eye(2), 1.0)
    better.measure(0, 0.0)
    assert better.margin() == pytest.approx(-3 / 2**0.5)


def test_a_measurement_moves_similar_classes_and_no_others() -> None:
    embedding = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    belief = Belief(np.zeros(3), embedding, np.eye(2), 1.0)
    belief.measure(0, 2.0)
    # half of the surprise is of the class alone: prior and noise have equal variances
    assert belief.mean.tolist() == [1.0, 1.0, 0.0]
    assert belief.deviation**2 == pytest.approx([1.5, 1.5, 2.0])
