"""Results of a method by image, and their comparison to the bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from diffcls.classifiers.base import Method
from diffcls.data.dataset import Item
from diffcls.runs.sharding import shard_of
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


def assert_independent_of_batches(method: Method, items: Sequence[Item]) -> None:
    """Assert that no result depends on the order of images or on the others in a batch."""
    expected = by_id(method.classify(items))
    assert {result.error for result in expected.values()} == {None}
    # images finish at different times, so the batches are mixed
    assert len({result.evaluations for result in expected.values()}) > 1
    shuffled = np.random.default_rng(0).permutation(len(items))
    arrangements = {
        "reversed": [items[::-1]],
        "shuffled": [[items[i] for i in shuffled]],
        "three shards": [[items[i] for i in shard_of(len(items), (s, 3))] for s in range(3)],
        "some alone": [[item] for item in items[:4]],
    }
    for name, groups in arrangements.items():
        results = by_id(result for group in groups for result in method.classify(group))
        assert len(results) == sum(map(len, groups)), name
        for image_id, result in results.items():
            assert_same(result, expected[image_id])
