"""Metrics against closed forms and independent references."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats

from diffcls.metrics import calibration
from diffcls.metrics import classification as metrics
from diffcls.support.errors import UsageError

UNTIMED = settings(deadline=None)  # the first example pays for a lazy import
SEEDS = st.integers(0, 2**32 - 1)
SCORES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(2, 8)),
    elements=st.floats(-1e3, 1e3, allow_nan=False),
)


def some_probabilities(seed: int, n: int = 200, k: int = 7) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.3), size=n)
    return p, rng.integers(0, k, size=n)


# ---- accuracy ----------------------------------------------------------------------------------


def test_top_k_accuracy_of_a_case_worked_by_hand() -> None:
    rankings = [[2, 0, 1], [0, 1, 2], [1, 2, 0], [1, 0, 2]]
    labels = [2, 1, 0, 1]
    assert [metrics.top_k_accuracy(rankings, labels, k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]


@UNTIMED
@given(SEEDS, st.integers(1, 6))
def test_top_k_accuracy_agrees_with_scikit_learn(seed: int, k: int) -> None:
    from sklearn.metrics import top_k_accuracy_score

    p, labels = some_probabilities(seed, n=50)
    ours = metrics.top_k_accuracy(np.argsort(-p, axis=1), labels, k)
    assert ours == pytest.approx(top_k_accuracy_score(labels, p, k=k, labels=range(7)))


@UNTIMED
@given(SEEDS, st.integers(1, 40))
def test_mean_per_class_is_macro_recall_over_the_classes_present(seed: int, n: int) -> None:
    from sklearn.metrics import recall_score

    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 6, n), rng.integers(0, 9, n)
    reference = recall_score(labels, predictions, labels=np.unique(labels), average="macro")
    assert metrics.mean_per_class(predictions, labels) == pytest.approx(reference)


def test_mean_per_class_weighs_classes_alike_whatever_their_size() -> None:
    labels = np.repeat([0, 5], [99, 1])
    assert metrics.mean_per_class(np.zeros(100, int), labels) == 0.5


# ---- intervals and tests -----------------------------------------------------------------------


@UNTIMED
@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_interval_agrees_with_scipy(n: int, fraction: float, confidence: float) -> None:
    successes = round(fraction * n)
    reference = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    ours = metrics.wilson_interval(successes, n, confidence)
    assert ours == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert 0 <= ours[0] <= successes / n <= ours[1] <= 1


def test_wilson_interval_ends_exactly_at_none_and_all() -> None:
    assert metrics.wilson_interval(0, 30)[0] == 0.0
    assert metrics.wilson_interval(30, 30)[1] == 1.0


def test_bootstrap_interval_of_a_large_normal_sample_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=1000)
    low, high = metrics.bootstrap_interval(values, seed=1)
    half = stats.norm.ppf(0.975) * values.std(ddof=1) / math.sqrt(1000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_bootstrap_interval_of_a_skewed_sample_is_corrected_for_bias_and_skew() -> None:
    values = np.random.default_rng(5).exponential(size=25) ** 2
    means = np.random.default_rng(9).choice(values, (50_000, 25)).mean(axis=1)
    left_out = (values.sum() - values) / 24
    skew = left_out.mean() - left_out
    # Efron 1987: quantiles Φ(z0 + (z0 + z)/(1 − a·(z0 + z))), a from the jackknife
    z0 = stats.norm.ppf((means < values.mean()).mean())
    a = (skew**3).sum() / (6 * (skew**2).sum() ** 1.5)
    shifted = z0 + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(means, stats.norm.cdf(z0 + shifted / (1 - a * shifted)))
    interval = metrics.bootstrap_interval(values, seed=0, resamples=20_000)
    assert interval == pytest.approx(expected, abs=0.03)
    assert np.quantile(means, [0.025, 0.975]) != pytest.approx(expected, abs=0.05)


def test_bootstrap_interval_depends_on_seed_and_values_only() -> None:
    values = np.random.default_rng(0).random(40)
    first = metrics.bootstrap_interval(values, seed=7, resamples=500)
    np.random.seed(0)  # noqa: NPY002 -- the global state must not matter
    assert metrics.bootstrap_interval(values, seed=7, resamples=500) == first
    assert metrics.bootstrap_interval(values, seed=8, resamples=500) != first


def test_bootstrap_interval_of_one_value_repeated_is_that_value() -> None:
    assert metrics.bootstrap_interval([0.25] * 10, seed=0, resamples=99) == (0.25, 0.25)


def test_bootstrap_interval_falls_back_where_no_single_image_moves_the_statistic() -> None:
    values = [0.0] * 30 + [1.0] * 3
    low, high = metrics.bootstrap_interval(values, seed=0, statistic=np.median, resamples=200)
    assert (low, high) == (0.0, 0.0)


@UNTIMED
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
def test_mcnemar_is_twice_the_smaller_binomial_tail(only_a: int, only_b: int, both: int) -> None:
    a = [1] * only_a + [0] * only_b + [1] * both + [0]
    b = [0] * only_a + [1] * only_b + [1] * both + [0]
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, i) for i in range(min(only_a, only_b) + 1)) / 2**discordant
    p = metrics.mcnemar_exact(a, b)
    assert p == pytest.approx(min(1.0, 2 * tail))
    assert metrics.mcnemar_exact(b, a) == pytest.approx(p)


# ---- calibration -------------------------------------------------------------------------------


def test_calibration_error_of_a_case_worked_by_hand() -> None:
    # bins (0.5, 0.75] and (0.75, 1]: |1/2 − 0.7|·2/4 + |1 − 0.9|·2/4
    p = [[0.7, 0.3], [0.3, 0.7], [0.9, 0.1], [0.1, 0.9]]
    assert calibration.expected_calibration_error(p, [0, 0, 0, 1], bins=4) == pytest.approx(0.15)


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin() -> None:
    # both in (0, 0.5] of two bins: |1/2 − 0.475|; one bin each would give 0.475
    p = [[0.5, 0.3, 0.2], [0.45, 0.35, 0.2]]
    assert calibration.expected_calibration_error(p, [0, 1], bins=2) == pytest.approx(0.025)


def test_certain_and_right_is_calibrated_certain_and_wrong_is_not() -> None:
    certain = np.eye(3)
    assert calibration.expected_calibration_error(certain, [0, 1, 2]) == 0.0
    assert calibration.expected_calibration_error(certain, [1, 2, 0]) == 1.0


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_agrees_with_torchmetrics(bins: int) -> None:
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    for seed in range(5):
        p, labels = some_probabilities(seed)
        reference = classification.MulticlassCalibrationError(7, n_bins=bins, norm="l1")
        expected = float(reference(torch.tensor(p), torch.tensor(labels)))
        assert calibration.expected_calibration_error(p, labels, bins) == pytest.approx(expected)


@UNTIMED
@given(SCORES, st.floats(1e-3, 1e3))
def test_posterior_is_a_distribution_in_the_order_of_the_scores(s: Any, scale: float) -> None:
    p = calibration.posterior(s, scale)
    assert p.sum(axis=-1) == pytest.approx(1.0)
    assert (p >= 0).all()
    assert p == pytest.approx(special.softmax(scale * s, axis=-1))
    order = np.argsort(s, axis=-1)
    assert (np.diff(np.take_along_axis(p, order, -1), axis=-1) >= -1e-15).all()


@UNTIMED
@given(SCORES, st.floats(-1e3, 1e3))
def test_posterior_does_not_see_what_all_classes_share(s: Any, shift: float) -> None:
    assert calibration.posterior(s + shift, 0.5) == pytest.approx(
        calibration.posterior(s, 0.5), abs=1e-9
    )


def test_posterior_is_stable_and_gives_nothing_to_minus_infinity() -> None:
    p = calibration.posterior([[1e308, -1e308, -np.inf], [-1e5, -1e5, -np.inf]], 1e6)
    assert p.tolist() == [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]


def test_negative_log_likelihood_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import log_loss

    p, labels = some_probabilities(3)
    expected = log_loss(labels, p, labels=range(7))
    assert calibration.negative_log_likelihood(p, labels) == pytest.approx(expected)
    assert calibration.negative_log_likelihood(np.eye(2), [1, 1]) == math.inf


# ---- temperature -------------------------------------------------------------------------------


def simulated(seed: int, n: int, spread: float = 3.0) -> tuple[Any, Any]:
    """Logits and labels drawn from their softmax: the temperature of these logits is 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, spread, size=(n, 10))
    # argmax of logits + Gumbel noise is a draw from their softmax
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.02, 1.0, 70.0])
def test_temperature_recovers_the_one_that_labels_were_drawn_with(temperature: float) -> None:
    logits, labels = simulated(0, n=20_000)
    fitted = calibration.fit_temperature(logits * temperature / 5.0, labels, scale=5.0)
    assert fitted == pytest.approx(temperature, rel=0.03)


@UNTIMED
@given(SEEDS)
def test_no_other_temperature_is_likelier(seed: int) -> None:
    logits, labels = simulated(seed, n=60)

    def loss(t: float) -> float:
        return calibration.negative_log_likelihood(calibration.posterior(logits, 1 / t), labels)

    best = calibration.fit_temperature(logits, labels, scale=1.0)
    assert all(loss(best) <= loss(best * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e3, 1e9])
def test_temperature_does_not_depend_on_the_unit_of_the_scores(unit: float) -> None:
    logits, labels = simulated(1, n=300)
    plain = calibration.fit_temperature(logits, labels, scale=1.0)
    assert calibration.fit_temperature(logits * unit, labels, 1.0) == pytest.approx(plain * unit)
    assert calibration.fit_temperature(logits, labels, scale=unit) == pytest.approx(plain * unit)


def test_temperature_of_images_that_are_all_right_stays_short_of_certainty() -> None:
    logits, _ = simulated(2, n=200)
    labels = logits.argmax(axis=1)
    t = calibration.fit_temperature(logits, labels, scale=1.0)
    # the nearest image counts half a mistake: its own class comes out near 1/2, not 1
    margin = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2]
    nearest = calibration.posterior(logits, 1 / t)[margin.argmin()].max()
    assert 0.5 < nearest < 0.99
    assert math.isfinite(t)


def test_temperature_counts_the_nearest_image_once_more_with_its_runner_up() -> None:
    # margins 1 and 3: minimise 2·log(1 + e^−β) + β + log(1 + e^−3β); its derivative is 0 at β
    t = calibration.fit_temperature([[1.0, 0.0], [0.0, 3.0]], [0, 1], scale=1.0)
    beta = 1 / t
    assert 1 - 2 / (1 + math.exp(beta)) == pytest.approx(3 / (1 + math.exp(3 * beta)), abs=1e-6)


def test_temperature_where_every_class_ties_leaves_the_scale() -> None:
    assert calibration.fit_temperature(np.zeros((4, 3)), [0, 1, 2, 0], scale=10.0) == 1.0


def test_temperature_where_scores_mislead_is_so_high_that_classes_are_about_equal() -> None:
    logits, _ = simulated(4, n=50)
    worst = logits.argmin(axis=1)
    t = calibration.fit_temperature(logits, worst, scale=1.0)
    assert calibration.posterior(logits, 1 / t) == pytest.approx(0.1, abs=1e-3)


def test_temperature_ignores_a_class_that_was_never_scored() -> None:
    logits, labels = simulated(5, n=300)
    wider = np.concatenate([logits, np.full((300, 1), -np.inf)], axis=1)
    expected = calibration.fit_temperature(logits, labels, scale=1.0)
    assert calibration.fit_temperature(wider, labels, scale=1.0) == pytest.approx(expected)


# ---- bad input ---------------------------------------------------------------------------------

P = [[0.5, 0.5], [0.2, 0.8]]
BAD: dict[str, Callable[[], object]] = {
    "empty rankings": lambda: metrics.top_k_accuracy(np.empty((0, 3), int), np.empty(0, int)),
    "rankings of one axis": lambda: metrics.top_k_accuracy([0, 1], [0, 1]),
    "ragged rankings": lambda: metrics.top_k_accuracy([[0, 1], [0]], [0, 1]),
    "more labels than rankings": lambda: metrics.top_k_accuracy([[0, 1]], [0, 1]),
    "k of 0": lambda: metrics.top_k_accuracy([[0, 1]], [0], k=0),
    "k above the columns": lambda: metrics.top_k_accuracy([[0, 1]], [0], k=3),
    "a class ranked twice": lambda: metrics.top_k_accuracy([[0, 0]], [1], k=2),
    "a negative label": lambda: metrics.top_k_accuracy([[0, 1]], [-1]),
    "labels that are fractions": lambda: metrics.mean_per_class([0, 1], [0.0, 1.0]),
    "predictions of another length": lambda: metrics.mean_per_class([0], [0, 1]),
    "no predictions": lambda: metrics.mean_per_class([], []),
    "no images": lambda: metrics.wilson_interval(0, 0),
    "more successes than images": lambda: metrics.wilson_interval(3, 2),
    "negative successes": lambda: metrics.wilson_interval(-1, 2),
    "confidence of 1": lambda: metrics.wilson_interval(1, 2, 1.0),
    "one value to resample": lambda: metrics.bootstrap_interval([1.0], seed=0),
    "NaN to resample": lambda: metrics.bootstrap_interval([1.0, math.nan], seed=0),
    "no resamples": lambda: metrics.bootstrap_interval([1.0, 2.0], seed=0, resamples=0),
    "a statistic of NaN": lambda: metrics.bootstrap_interval(
        [1.0, 2.0], seed=0, statistic=lambda x, axis: np.full(x.shape[:-1], np.nan), resamples=9
    ),
    "neither right nor wrong": lambda: metrics.mcnemar_exact([0, 2], [0, 1]),
    "right, wrong and NaN": lambda: metrics.mcnemar_exact([0, math.nan], [0, 1]),
    "flags of other lengths": lambda: metrics.mcnemar_exact([0, 1], [1]),
    "no flags": lambda: metrics.mcnemar_exact([], []),
    "NaN among probabilities": lambda: calibration.expected_calibration_error(
        [[math.nan, 1.0]], [1]
    ),
    "logits for probabilities": lambda: calibration.expected_calibration_error([[3.0, -2.0]], [0]),
    "a row that sums to 2": lambda: calibration.negative_log_likelihood([[1.0, 1.0]], [0]),
    "a label beyond the classes": lambda: calibration.expected_calibration_error(P, [0, 2]),
    "a label beyond, likelihood": lambda: calibration.negative_log_likelihood(P, [0, 2]),
    "no bins": lambda: calibration.expected_calibration_error(P, [0, 1], bins=0),
    "NaN among scores": lambda: calibration.posterior([0.0, math.nan], 1.0),
    "an infinite score": lambda: calibration.posterior([0.0, math.inf], 1.0),
    "no class scored": lambda: calibration.posterior([-math.inf, -math.inf], 1.0),
    "no scores": lambda: calibration.posterior([], 1.0),
    "a single score": lambda: calibration.posterior(1.0, 1.0),
    "a scale of 0": lambda: calibration.posterior([0.0, 1.0], 0.0),
    "a scale of NaN": lambda: calibration.posterior([0.0, 1.0], math.nan),
    "words for scores": lambda: calibration.posterior(["a", "b"], 1.0),
    "one class": lambda: calibration.fit_temperature([[1.0]], [0], 1.0),
    "a label of score -inf": lambda: calibration.fit_temperature([[-math.inf, 0.0]], [0], 1.0),
    "NaN to fit": lambda: calibration.fit_temperature([[math.nan, 0.0]], [1], 1.0),
    "a label beyond the scores": lambda: calibration.fit_temperature([[1.0, 0.0]], [2], 1.0),
    "a scale below 0": lambda: calibration.fit_temperature([[1.0, 0.0]], [0], -1.0),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case: str) -> None:
    with pytest.raises(UsageError):
        BAD[case]()


def test_import_needs_neither_torch_nor_scipy() -> None:
    code = "import sys, diffcls.metrics.classification; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"  # noqa: E501
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
