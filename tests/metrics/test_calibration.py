"""Posterior, temperature scaling and expected calibration error against references."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.predictions import some_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, special

from diffcls.metrics.calibration import (
    expected_calibration_error,
    fit_temperature,
    log_posterior,
    negative_log_likelihood,
    posterior,
)
from diffcls.support.errors import UsageError

UNTIMED = settings(deadline=None)  # the first example includes a lazy import
SEEDS = st.integers(0, 2**32 - 1)
SCORES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(2, 8)),
    elements=st.floats(-1e3, 1e3, allow_nan=False),
)


# ---- posterior and calibration error -------------------------------------------------------------


def test_calibration_error_of_a_worked_example() -> None:
    # bins (0.5, 0.75] and (0.75, 1]: |1/2 − 0.7|·2/4 + |1 − 0.9|·2/4
    p = [[0.7, 0.3], [0.3, 0.7], [0.9, 0.1], [0.1, 0.9]]
    assert expected_calibration_error(p, [0, 0, 0, 1], bins=4) == pytest.approx(0.15)


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin() -> None:
    # both in (0, 0.5] of two bins: |1/2 − 0.475|; one bin each would give 0.475
    p = [[0.5, 0.3, 0.2], [0.45, 0.35, 0.2]]
    assert expected_calibration_error(p, [0, 1], bins=2) == pytest.approx(0.025)


def test_full_confidence_is_calibrated_only_where_it_is_right() -> None:
    certain = np.eye(3)
    assert expected_calibration_error(certain, [0, 1, 2]) == 0.0
    assert expected_calibration_error(certain, [1, 2, 0]) == 1.0


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_agrees_with_torchmetrics(bins: int) -> None:
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    for seed in range(5):
        p, labels = some_probabilities(seed)
        reference = classification.MulticlassCalibrationError(7, n_bins=bins, norm="l1")
        expected = float(reference(torch.tensor(p), torch.tensor(labels)))
        assert expected_calibration_error(p, labels, bins) == pytest.approx(expected)


@UNTIMED
@given(SCORES, st.floats(1e-3, 1e3))
def test_posterior_is_a_distribution_in_the_order_of_the_scores(s: Any, scale: float) -> None:
    p = posterior(s, scale)
    assert p.sum(axis=-1) == pytest.approx(1.0)
    assert (p >= 0).all()
    assert p == pytest.approx(special.softmax(scale * s, axis=-1))
    order = np.argsort(s, axis=-1)
    assert (np.diff(np.take_along_axis(p, order, -1), axis=-1) >= -1e-15).all()


@UNTIMED
@given(SCORES, st.floats(-1e3, 1e3))
def test_posterior_is_invariant_to_a_shift_of_all_scores(s: Any, shift: float) -> None:
    assert posterior(s + shift, 0.5) == pytest.approx(posterior(s, 0.5), abs=1e-9)


def test_posterior_does_not_overflow_and_is_zero_at_minus_infinity() -> None:
    p = posterior([[1e308, -1e308, -np.inf], [-1e5, -1e5, -np.inf]], 1e6)
    assert p.tolist() == [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]


@UNTIMED
@given(SCORES, st.floats(1e-3, 1e3))
def test_log_posterior_is_the_log_softmax(s: Any, scale: float) -> None:
    reference = special.log_softmax(scale * s, axis=-1)
    assert log_posterior(s, scale) == pytest.approx(reference, rel=1e-9, abs=1e-9)


def test_log_posterior_is_finite_where_the_probability_underflows() -> None:
    s = [[0.0, -1.0, -2.0, -np.inf]]
    assert posterior(s, 1e4).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert log_posterior(s, 1e4).tolist() == [[0.0, -1e4, -2e4, -np.inf]]


def test_negative_log_likelihood_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import log_loss

    p, labels = some_probabilities(3)
    expected = log_loss(labels, p, labels=range(7))
    assert negative_log_likelihood(p, labels) == pytest.approx(expected)
    assert negative_log_likelihood(np.eye(2), [1, 1]) == math.inf


# ---- temperature scaling -------------------------------------------------------------------------


def simulated(seed: int, n: int, spread: float = 3.0) -> tuple[Any, Any]:
    """Logits and labels sampled from their softmax: the temperature of these logits is 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, spread, size=(n, 10))
    # argmax of logits + Gumbel noise is a sample from their softmax
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.02, 1.0, 70.0])
def test_fitted_temperature_is_the_one_that_labels_were_sampled_with(temperature: float) -> None:
    logits, labels = simulated(0, n=20_000)
    fitted = fit_temperature(logits * temperature / 5.0, labels, scale=5.0)
    assert fitted == pytest.approx(temperature, rel=0.03)


@UNTIMED
@given(SEEDS)
def test_fitted_temperature_maximises_the_likelihood(seed: int) -> None:
    logits, labels = simulated(seed, n=60)

    def loss(t: float) -> float:
        return negative_log_likelihood(posterior(logits, 1 / t), labels)

    best = fit_temperature(logits, labels, scale=1.0)
    assert all(loss(best) <= loss(best * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e3, 1e9])
def test_temperature_scales_with_the_unit_of_the_scores(unit: float) -> None:
    logits, labels = simulated(1, n=300)
    plain = fit_temperature(logits, labels, scale=1.0)
    assert fit_temperature(logits * unit, labels, 1.0) == pytest.approx(plain * unit)
    assert fit_temperature(logits, labels, scale=unit) == pytest.approx(plain * unit)


def test_temperature_stays_finite_where_every_image_is_right() -> None:
    logits, _ = simulated(2, n=200)
    labels = logits.argmax(axis=1)
    t = fit_temperature(logits, labels, scale=1.0)
    # the image of smallest margin counts as half an error: its own class is near 1/2, not 1
    margin = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2]
    nearest = posterior(logits, 1 / t)[margin.argmin()].max()
    assert 0.5 < nearest < 0.99
    assert math.isfinite(t)


def test_temperature_counts_the_image_of_smallest_margin_twice() -> None:
    # margins 1 and 3: minimise 2·log(1 + e^−β) + β + log(1 + e^−3β); its derivative is 0 at β
    t = fit_temperature([[1.0, 0.0], [0.0, 3.0]], [0, 1], scale=1.0)
    beta = 1 / t
    assert 1 - 2 / (1 + math.exp(beta)) == pytest.approx(3 / (1 + math.exp(3 * beta)), abs=1e-6)


def test_temperature_is_one_where_all_scores_tie() -> None:
    assert fit_temperature(np.zeros((4, 3)), [0, 1, 2, 0], scale=10.0) == 1.0


def test_misleading_scores_give_a_temperature_of_equal_probabilities() -> None:
    logits, _ = simulated(4, n=50)
    worst = logits.argmin(axis=1)
    t = fit_temperature(logits, worst, scale=1.0)
    assert posterior(logits, 1 / t) == pytest.approx(0.1, abs=1e-3)


def test_temperature_ignores_a_class_that_was_never_scored() -> None:
    logits, labels = simulated(5, n=300)
    wider = np.concatenate([logits, np.full((300, 1), -np.inf)], axis=1)
    expected = fit_temperature(logits, labels, scale=1.0)
    assert fit_temperature(wider, labels, scale=1.0) == pytest.approx(expected)


def test_public_name_is_the_one_implementation() -> None:
    import diffcls

    assert diffcls.fit_temperature is fit_temperature
    source = Path(diffcls.__file__).parent
    fits = [p.name for p in source.rglob("*.py") if "minimize_scalar" in p.read_text("utf-8")]
    assert fits == ["calibration.py"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_temperature_agrees_with_scipy_on_the_likelihood_written_out(
    seed: int, weighted: bool
) -> None:
    logits, labels = simulated(seed, n=80)
    w = np.random.default_rng(seed).exponential(size=80) if weighted else np.ones(80)

    def loss(log_t: float) -> float:
        log_p = special.log_softmax(logits * 7.0 / math.exp(log_t), axis=1)
        return -float((w * log_p[np.arange(80), labels]).sum())

    reference = optimize.minimize_scalar(loss, bracket=(0.0, 2.0), tol=1e-12)
    fitted = fit_temperature(logits, labels, scale=7.0, sample_weight=w if weighted else None)
    assert fitted == pytest.approx(math.exp(reference.x), rel=1e-6)


def test_temperature_of_two_margins_has_a_closed_form() -> None:
    # n right and m wrong at the same margin d: σ(d/T) = n/(n + m), so T = d/log(n/m)
    scores = [[0.0, 2.0]] * 5
    assert fit_temperature(scores, [1, 1, 1, 1, 0]) == pytest.approx(2.0 / math.log(4.0))
    weighted = fit_temperature(scores[:2], [1, 0], sample_weight=[4, 1])
    assert weighted == pytest.approx(2.0 / math.log(4.0))


def test_temperature_of_log_probabilities_is_that_of_their_scores() -> None:
    logits, labels = simulated(6, n=100)
    plain = fit_temperature(logits, labels)
    again = fit_temperature(log_posterior(logits, 1 / 3.0), labels, scale=3.0)
    assert again == pytest.approx(plain, rel=1e-6)
    shifted = fit_temperature(logits + np.arange(100.0)[:, None], labels)
    assert shifted == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("all_right", [False, True])
def test_a_weight_counts_images(all_right: bool) -> None:
    logits, labels = simulated(7, n=40)
    labels = logits.argmax(axis=1) if all_right else labels
    w = np.random.default_rng(0).integers(0, 4, size=40)
    repeated = fit_temperature(np.repeat(logits, w, axis=0), np.repeat(labels, w))
    assert fit_temperature(logits, labels, sample_weight=w) == pytest.approx(repeated, rel=1e-6)


def test_the_unit_of_the_weights_does_not_matter_where_images_are_wrong() -> None:
    logits, labels = simulated(8, n=40)
    w = np.random.default_rng(1).exponential(size=40)
    fitted = [fit_temperature(logits, labels, sample_weight=w * unit) for unit in (1, 1e-6, 1e6)]
    assert fitted[1:] == pytest.approx(fitted[:1] * 2, rel=1e-6)


# ---- invalid input -------------------------------------------------------------------------------

P = [[0.5, 0.5], [0.2, 0.8]]
INVALID: dict[str, Callable[[], object]] = {
    "too few weights": lambda: fit_temperature(P, [0, 1], sample_weight=[1.0]),
    "weights in a column": lambda: fit_temperature(P, [0, 1], sample_weight=[[1.0], [1.0]]),
    "a negative weight": lambda: fit_temperature(P, [0, 1], sample_weight=[1.0, -1.0]),
    "a weight of NaN": lambda: fit_temperature(P, [0, 1], sample_weight=[1.0, math.nan]),
    "weights of 0": lambda: fit_temperature(P, [0, 1], sample_weight=[0.0, 0.0]),
    "words for weights": lambda: fit_temperature(P, [0, 1], sample_weight=["a", "b"]),
    "a scale of 0 for a logarithm": lambda: log_posterior(P, 0.0),
    "NaN among probabilities": lambda: expected_calibration_error([[math.nan, 1.0]], [1]),
    "logits for probabilities": lambda: expected_calibration_error([[3.0, -2.0]], [0]),
    "a row that sums to 2": lambda: negative_log_likelihood([[1.0, 1.0]], [0]),
    "a label beyond the classes": lambda: expected_calibration_error(P, [0, 2]),
    "a label beyond, likelihood": lambda: negative_log_likelihood(P, [0, 2]),
    "no bins": lambda: expected_calibration_error(P, [0, 1], bins=0),
    "NaN among scores": lambda: posterior([0.0, math.nan], 1.0),
    "an infinite score": lambda: posterior([0.0, math.inf], 1.0),
    "no class scored": lambda: posterior([-math.inf, -math.inf], 1.0),
    "no scores": lambda: posterior([], 1.0),
    "a single score": lambda: posterior(1.0, 1.0),
    "a scale of 0": lambda: posterior([0.0, 1.0], 0.0),
    "a scale of NaN": lambda: posterior([0.0, 1.0], math.nan),
    "words for scores": lambda: posterior(["a", "b"], 1.0),
    "one class": lambda: fit_temperature([[1.0]], [0], 1.0),
    "a label of score -inf": lambda: fit_temperature([[-math.inf, 0.0]], [0], 1.0),
    "NaN to fit": lambda: fit_temperature([[math.nan, 0.0]], [1], 1.0),
    "a label beyond the scores": lambda: fit_temperature([[1.0, 0.0]], [2], 1.0),
    "a scale below 0": lambda: fit_temperature([[1.0, 0.0]], [0], -1.0),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input_is_refused(case: str) -> None:
    with pytest.raises(UsageError):
        INVALID[case]()
