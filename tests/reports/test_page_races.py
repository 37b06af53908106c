"""Races from error tables, against sums written out by hand."""

from __future__ import annotations

import math

import numpy as np

from diffcls.reports.page.races import Race, by_timestep, classes_alive, elimination

NAN = np.nan
TABLE = np.array(
    [
        [0.2, 0.1, 0.3, 0.2],  # stays to the end
        [0.5, 0.5, NAN, NAN],  # out after two draws
        [0.9, 0.8, NAN, NAN],
        [0.3, 0.2, 0.3, 0.4],
        [0.9, NAN, NAN, NAN],
    ],
    dtype=np.float32,
)


def test_classes_drop_out_in_the_order_of_their_draws() -> None:
    # within a step, the class of lowest mean error comes last
    assert elimination(TABLE) == [(1, [4]), (2, [2, 1]), (4, [3, 0])]


def test_a_class_that_was_never_scored_comes_first() -> None:
    table = np.array([[NAN, NAN], [0.1, 0.2]], dtype=np.float32)
    assert elimination(table) == [(0, [0]), (2, [1])]


def test_classes_alive_are_counted_at_each_draw() -> None:
    full = np.ones_like(TABLE)
    assert classes_alive([Race(TABLE, 0)]).tolist() == [5, 4, 2, 2]
    assert classes_alive([Race(TABLE, 0), Race(full, 1)]).tolist() == [5, 4.5, 3.5, 3.5]


def test_differences_by_timestep_are_paired_and_their_shares_sum_to_one() -> None:
    times = np.array([100.0, 200.0, 600.0, 800.0])
    bins = by_timestep([Race(TABLE, 0)], times, count=2)
    # the rival is class 3: of those with four draws, the one of least error beside the label
    first, second = bins
    assert (first.low, first.high, first.n) == (100, 200, 2)
    assert (second.low, second.high, second.n) == (600, 800, 2)
    assert math.isclose(first.difference, 0.1, rel_tol=1e-6)
    assert math.isclose(second.difference, 0.1, rel_tol=1e-6)
    assert math.isclose(second.label_error, 0.25, rel_tol=1e-6)
    assert math.isclose(sum(b.share or 0 for b in bins), 1.0)
    assert math.isclose(second.stderr or 0, np.std([0.0, 0.2], ddof=1) / math.sqrt(2), rel_tol=1e-5)


def test_a_wrong_answer_counts_against_the_label() -> None:
    bins = by_timestep([Race(TABLE, 3)], np.array([1.0, 2.0, 3.0, 4.0]), count=1)
    assert math.isclose(bins[0].difference, -0.1, rel_tol=1e-6) and bins[0].share == 1.0


def test_without_draws_there_is_no_curve() -> None:
    assert by_timestep([Race(TABLE, 0)], np.empty(0)) == []
