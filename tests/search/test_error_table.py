"""Error table: means, scores and ranking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers.races import CLASSES, DRAWS, FEWER, SEEDS, each_search, empty, races, run
from hypothesis import given

from diffcls.search.base import Search
from diffcls.search.error_table import counts, leader, means, ranking, scores

pytestmark = pytest.mark.filterwarnings("error")

WORKED = np.float32(
    [
        [4, 2, 3, 7],  # leads: mean 4
        [6, 3, np.nan, np.nan],  # 1.5 behind on two common draws
        [5, 4, 2, 9],  # stays to the end: mean 5
        [1, 1, np.nan, np.nan],  # would be ahead on two draws, but was dropped
        [np.nan] * 4,
    ]
)


def test_scores_of_a_table_worked_by_hand() -> None:
    assert counts(WORKED).tolist() == [4, 2, 4, 2, 0]
    assert means(WORKED).tolist() == [4.0, 4.5, 5.0, 1.0, np.inf]
    assert leader(WORKED) == 0
    assert scores(WORKED).tolist() == [-4.0, -5.5, -5.0, np.nextafter(-4.0, -5), -np.inf]
    assert ranking(WORKED).tolist() == [0, 3, 2, 1, 4]


@each_search
@FEWER
@given(classes=CLASSES, draws=DRAWS, seed=SEEDS)
def test_scores_are_minus_means_and_paired_differences_where_dropped(
    make: Callable[[int], Search], classes: int, draws: int, seed: int
) -> None:
    table, _ = run(make(draws), races(classes, draws, 1.0, seed))
    result, best, n = scores(table), leader(table), counts(table)
    top = -table[best, : n[best]].astype(np.float64).mean()
    assert result[best] == pytest.approx(top)
    assert (np.delete(result, best) < result[best]).all()
    for k in set(range(classes)) - {best}:
        behind = (table[k] - table[best].astype(np.float64))[: n[k]].mean()
        assert result[k] == pytest.approx(top - max(behind, 0.0), abs=1e-9)
        if n[k] == n[best]:
            assert result[k] == pytest.approx(-table[k, : n[k]].astype(np.float64).mean(), abs=1e-9)


def test_an_empty_table_has_scores_too() -> None:
    table = empty(3, 5)
    assert (means(table) == np.inf).all()
    assert (scores(table) == -np.inf).all()
    assert ranking(table).tolist() == [0, 1, 2]


def test_equal_scores_keep_the_order_of_classes() -> None:
    table = np.float32(
        [[k % 2] * 3 for k in range(1, 101)]
    )  # long enough for an unstable sort to reorder
    assert ranking(table).tolist() == [*range(1, 100, 2), *range(0, 100, 2)]
