"""Multi-label metrics agree with scikit-learn, and the threshold is the best one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from diffcls.metrics.multi_label import (
    average_precision,
    f1_per_label,
    fit_threshold,
    mean_average_precision,
)
from diffcls.support.errors import UsageError


def sample(seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    present = rng.random((60, 5)) < 0.3
    present[0] = True
    return present, np.round(rng.normal(size=(60, 5)) + present, decimals)


@pytest.mark.parametrize("decimals", [0, 1, 8])  # few decimals: many ties
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_scikit_learn_ties_included(seed: int, decimals: int) -> None:
    present, scores = sample(seed, decimals)
    for k in range(5):
        expected = average_precision_score(present[:, k], scores[:, k])
        assert average_precision(present[:, k], scores[:, k]) == pytest.approx(expected, abs=1e-12)
    macro = average_precision_score(present, scores, average="macro")
    assert mean_average_precision(present, scores) == pytest.approx(macro, abs=1e-12)


def test_label_of_no_image_has_no_part_in_the_mean() -> None:
    present, scores = sample(0, 3)
    absent = present.copy()
    absent[:, 2] = False
    rest = [0, 1, 3, 4]
    expected = mean_average_precision(present[:, rest], scores[:, rest])
    assert mean_average_precision(absent, scores) == pytest.approx(expected, abs=1e-12)


def test_f1_is_that_of_scikit_learn() -> None:
    present, scores = sample(1, 2)
    expected = f1_score(present, scores >= 0.5, average=None, zero_division=0)
    assert f1_per_label(present, scores, 0.5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 8])
def test_no_threshold_has_a_higher_mean_f1_than_the_fitted_one(decimals: int) -> None:
    present, scores = sample(2, decimals)
    best = f1_per_label(present, scores, fit_threshold(present, scores)).mean()
    every = [f1_per_label(present, scores, t).mean() for t in [*np.unique(scores), 99.0]]
    assert best == pytest.approx(max(every), abs=1e-12)


def test_undefined_and_unfitting_input_is_refused() -> None:
    with pytest.raises(UsageError, match="no image with the label"):
        average_precision([0, 0], [0.1, 0.2])
    with pytest.raises(UsageError, match="do not fit"):
        mean_average_precision([[1, 0]], [[0.5, np.nan]])
