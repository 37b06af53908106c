"""Ablation of variance reduction: its estimators and its verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.ablations import variance


def test_the_leader_as_control_variate_removes_common_noise() -> None:
    rng = np.random.default_rng(3)
    gaps = np.array([0.0, 0.3, 0.6, 0.9])
    common = rng.normal(0, 5, (200, 1, 30))
    # each class follows the common noise with a slope of its own, which harms plain means
    errors = gaps[:, None] + common * np.array([1.0, 0.8, 1.2, 0.9])[:, None]
    errors += rng.normal(0, 0.01, errors.shape)
    accuracy = {
        name: (estimator(errors, 6) == 0).mean() for name, estimator in variance.ESTIMATORS.items()
    }
    assert accuracy["control variate: the leader"] > (variance.plain(errors, 6) == 0).mean() + 0.1


def test_ranks_and_trimming_are_those_of_scipy() -> None:
    errors = np.random.default_rng(1).normal(size=(20, 5, 10))
    ranks = stats.rankdata(errors, axis=1).mean(axis=2)
    assert (variance.by_rank(errors, 10) == ranks.argmin(axis=1)).all()
    centred = errors - errors.mean(axis=1, keepdims=True)
    kept = np.sort(centred, axis=2)[:, :, 1:-1].mean(axis=2)  # a tenth of ten at either end
    assert (variance.trimmed(errors, 10) == kept.argmin(axis=1)).all()


def test_an_estimator_is_adopted_if_significantly_better_on_three_benchmarks() -> None:
    flips = {"a": (9, 2), "b": (8, 2), "c": (8, 2), "d": (1, 3)}
    comparisons = [
        variance.Comparison(
            estimator, name, draws, *(flip if estimator != "bad" else flip[::-1]), images=100
        )
        for estimator in ("good", "bad")
        for draws in variance.DRAWS
        for name, flip in flips.items()
    ]
    comparisons += [
        variance.Comparison("lucky", name, draws, 2, 1, images=100)
        for draws in variance.DRAWS
        for name in flips
    ]
    text = "\n".join(variance.page(comparisons))
    # 26 against 9, and 8 against 4
    assert variance.pooled_p(comparisons[:4]) == pytest.approx(stats.binomtest(26, 35).pvalue)
    assert "- good: better on 3 of 4, p up to 0.006: worth adopting." in text
    assert "- bad: better on 1 of 4, p up to 0.006: not adopted." in text
    assert "- lucky: better on 4 of 4, p up to 0.388: not adopted." in text
    assert "| good | 12 | +7.0 (100) |" in text
