"""Top-k accuracy and mean per-class accuracy against closed forms and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers.predictions import some_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcls.metrics.classification import mean_per_class, top_k_accuracy
from diffcls.support.errors import UsageError

UNTIMED = settings(deadline=None)  # the first example includes a lazy import
SEEDS = st.integers(0, 2**32 - 1)


def test_top_k_accuracy_of_a_worked_example() -> None:
    rankings = [[2, 0, 1], [0, 1, 2], [1, 2, 0], [1, 0, 2]]
    labels = [2, 1, 0, 1]
    assert [top_k_accuracy(rankings, labels, k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]


@UNTIMED
@given(SEEDS, st.integers(1, 6))
def test_top_k_accuracy_agrees_with_scikit_learn(seed: int, k: int) -> None:
    from sklearn.metrics import top_k_accuracy_score

    p, labels = some_probabilities(seed, n=50)
    ours = top_k_accuracy(np.argsort(-p, axis=1), labels, k)
    assert ours == pytest.approx(top_k_accuracy_score(labels, p, k=k, labels=range(7)))


@UNTIMED
@given(SEEDS, st.integers(1, 40))
def test_mean_per_class_is_macro_recall_over_the_classes_present(seed: int, n: int) -> None:
    from sklearn.metrics import recall_score

    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 6, n), rng.integers(0, 9, n)
    reference = recall_score(labels, predictions, labels=np.unique(labels), average="macro")
    assert mean_per_class(predictions, labels) == pytest.approx(reference)


def test_mean_per_class_weighs_classes_equally() -> None:
    labels = np.repeat([0, 5], [99, 1])
    assert mean_per_class(np.zeros(100, int), labels) == 0.5


INVALID: dict[str, Callable[[], object]] = {
    "empty rankings": lambda: top_k_accuracy(np.empty((0, 3), int), np.empty(0, int)),
    "rankings of one axis": lambda: top_k_accuracy([0, 1], [0, 1]),
    "ragged rankings": lambda: top_k_accuracy([[0, 1], [0]], [0, 1]),
    "more labels than rankings": lambda: top_k_accuracy([[0, 1]], [0, 1]),
    "k of 0": lambda: top_k_accuracy([[0, 1]], [0], k=0),
    "k above the columns": lambda: top_k_accuracy([[0, 1]], [0], k=3),
    "a class ranked twice": lambda: top_k_accuracy([[0, 0]], [1], k=2),
    "a negative label": lambda: top_k_accuracy([[0, 1]], [-1]),
    "labels that are fractions": lambda: mean_per_class([0, 1], [0.0, 1.0]),
    "predictions of another length": lambda: mean_per_class([0], [0, 1]),
    "no predictions": lambda: mean_per_class([], []),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input_is_refused(case: str) -> None:
    with pytest.raises(UsageError):
        INVALID[case]()
