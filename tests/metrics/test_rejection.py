"""Rejection: agreement with scikit-learn, and with the posterior of known generating models."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from diffcls.metrics.calibration import posterior
from diffcls.metrics.rejection import (
    Calibration,
    auroc,
    best_posterior,
    bootstrap_over_images,
    candidate_log_odds,
    fit_calibration,
    fpr_at_recall,
    margin,
)
from diffcls.support.errors import UsageError


@pytest.mark.parametrize("decimals", [0, 1, 9])  # few decimals: many ties
@pytest.mark.parametrize("seed", range(4))
def test_auroc_and_fpr_are_those_of_scikit_learn_ties_included(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    known = np.round(rng.normal(1, 1, 61), decimals)
    unknown = np.round(rng.normal(0, 1, 40), decimals)
    truth, values = np.repeat([1, 0], [61, 40]), np.concatenate([known, unknown])
    assert auroc(known, unknown) == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    assert fpr_at_recall(known, unknown) == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-12)


def test_recall_of_95_percent_of_20_images_is_19_of_them() -> None:
    assert fpr_at_recall(np.arange(20.0), [0.5, 1.5]) == 0.5


def test_odds_against_the_background_are_the_exact_posterior_of_a_mixture() -> None:
    """Five classes of equal prior in one dimension, three of them candidates; Bayes' rule."""
    means, x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.linspace(-3, 3, 41)
    density = np.exp(-((x[:, None] - means) ** 2) / (2 * 0.5**2))
    log_p = np.log(density)
    marginal = np.log(density.mean(axis=1))  # of the prompt that stands for all classes
    odds = candidate_log_odds(log_p[:, :3], marginal, 1.0)
    share = density[:, :3].sum(axis=1) / density.sum(axis=1)
    assert np.exp(odds) / 5 == pytest.approx(share, rel=1e-12)


def test_posterior_with_the_background_is_the_logistic_function_of_the_odds() -> None:
    rng = np.random.default_rng(0)
    scores, background = rng.normal(size=(30, 4)), rng.normal(size=30)
    calibration = Calibration(scale=2.5, offset=0.7)
    p = posterior(calibration.with_background(scores, background), 2.5)
    odds = candidate_log_odds(scores, background, 2.5)
    assert p[:, -1] == pytest.approx(1 / (1 + np.exp(odds - 0.7)), rel=1e-12)


def generated(scale: float, offset: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, and labels that follow the posterior of `scale` and `offset`."""
    rng = np.random.default_rng(0)
    scores, background = rng.normal(0, 2, (count, 4)), rng.normal(0, 2, count)
    p = posterior(Calibration(scale, offset).with_background(scores, background), scale)
    labels = (p.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return scores, background, labels


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (3.0, 2.0), (0.2, -1.0)])
def test_calibration_finds_the_scale_and_offset_that_generated_the_labels(
    scale: float, offset: float
) -> None:
    scores, background, labels = generated(scale, offset, 40_000)
    unknown = (labels == 4).mean()
    fitted = fit_calibration(scores, background, labels, 1.0)
    assert fitted.scale == pytest.approx(scale, rel=0.06)
    # known and unknown images weigh the same: the offset is that of even odds
    even = offset + np.log((1 - unknown) / unknown)
    assert fitted.offset == pytest.approx(even, abs=0.06)


def test_calibration_does_not_depend_on_the_unit_of_the_scores() -> None:
    scores, background, labels = generated(1.0, 0.5, 500)
    one = fit_calibration(scores, background, labels, 1.0)
    other = fit_calibration(scores * 1e-4, background * 1e-4, labels, 1.0)
    assert other.scale * 1e-4 == pytest.approx(one.scale, rel=1e-5)
    assert other.offset == pytest.approx(one.offset, abs=1e-4)


def test_calibration_is_finite_where_validation_images_are_separated() -> None:
    scores = np.array([[5.0, 0.0], [0.0, 4.0], [0.0, 0.0], [0.1, 0.0]])
    fitted = fit_calibration(scores, np.array([1.0, 1.0, 3.0, 3.0]), [0, 1, 2, 2], 1.0)
    p = posterior(fitted.with_background(scores, [1.0, 1.0, 3.0, 3.0]), fitted.scale)
    assert p.argmax(axis=1).tolist() == [0, 1, 2, 2]
    assert 0 < fitted.scale < 100


def test_class_that_was_never_scored_has_no_share() -> None:
    scores = np.array([[1.0, -np.inf], [0.2, 0.0], [-1.0, -2.0]])
    odds = candidate_log_odds(scores, [0.0, 0.0, 0.0], 2.0)
    assert odds[0] == pytest.approx(2.0)
    assert np.isfinite(fit_calibration(scores, [0.0, 0.0, 0.0], [0, 1, 2], 1.0).offset)


@pytest.mark.parametrize("labels", [[0, 1], [2, 2], [0, 3], [-1, 2]])
def test_calibration_needs_both_kinds_of_images(labels: list[int]) -> None:
    with pytest.raises(UsageError, match="calibration needs images of the candidates and of other"):
        fit_calibration([[0.0, 1.0], [1.0, 0.0]], [0.5, 0.5], labels, 1.0)


def test_bootstrap_is_keyed_and_covers_the_figure() -> None:
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(1, 1, 80), rng.normal(0, 1, 40)

    def figure(i: np.ndarray, j: np.ndarray) -> float:
        return auroc(known[i], unknown[j])

    low, high = bootstrap_over_images(figure, 80, 40, seed=0, resamples=500)
    assert low < auroc(known, unknown) < high
    assert (low, high) == bootstrap_over_images(figure, 80, 40, seed=0, resamples=500)
    # the standard error of DeLong et al. 1988, from the placements of the images
    v10 = [(np.mean(k > unknown)) for k in known]
    v01 = [(np.mean(known > u)) for u in unknown]
    error = np.sqrt(np.var(v10, ddof=1) / 80 + np.var(v01, ddof=1) / 40)
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.15)


def test_margin_is_the_gap_of_the_two_best() -> None:
    assert margin([[0.5, 2.0, 1.25]]).tolist() == [0.75]


def test_odds_of_the_only_candidate_that_was_scored_are_infinite() -> None:
    scores = [[-1.0, -np.inf, -np.inf], [-1.0, -2.0, -np.inf], [-1.0, -2.0, -3.0]]
    odds = best_posterior(scores, 2.0)
    p = np.exp(2.0 * np.array(scores))
    p /= p.sum(axis=1, keepdims=True)
    assert odds[0] == np.inf
    assert odds[1:] == pytest.approx(np.log(p[1:, 0] / (1 - p[1:, 0])))
