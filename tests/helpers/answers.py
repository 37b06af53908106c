"""Results of a method by image, and their comparison to the bit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from diffcls.scoring.class_scores import ClassScores


def by_id(answers: Iterable[ClassScores]) -> dict[str, ClassScores]:
    """Image id -> result; each image has one result."""
    listed = list(answers)
    results = {answer.image_id: answer for answer in listed}
    assert len(results) == len(listed)
    return results


def assert_same(one: ClassScores, two: ClassScores) -> None:
    """Assert equality to the bit, except for the time."""
    assert (one.image_id, one.error, one.evaluations) == (two.image_id, two.error, two.evaluations)
    assert np.array_equal(one.scores, two.scores) and np.array_equal(one.ranking, two.ranking)
    assert np.array_equal(table(one), table(two), equal_nan=True)


def table(answer: ClassScores) -> np.ndarray:
    """(K, N) errors, or nothing for a failed image."""
    return np.empty(0) if answer.errors is None else answer.errors
