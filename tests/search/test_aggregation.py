"""Aggregation of draws: ranks and votes equal scipy's, and are invariant where they must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from diffcls.search.aggregation import VOTES, majority, mean, rank
from diffcls.search.error_table import Table, ranking

tables = st.tuples(st.integers(2, 7), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(0, 5).map(float))
)


@given(tables)
def test_ranks_are_scipys(errors: Table) -> None:
    expected = stats.rankdata(errors, axis=0, method="average") - 1
    assert np.array_equal(rank(errors), expected.astype(np.float32))


@given(tables, st.data())
def test_ranks_are_scipys_among_the_classes_that_were_evaluated(
    errors: Table, data: st.DataObject
) -> None:
    unseen = data.draw(arrays(bool, errors.shape))
    holed = np.where(unseen, np.nan, errors).astype(np.float32)
    expected = stats.rankdata(holed, axis=0, method="average", nan_policy="omit") - 1
    assert np.array_equal(rank(holed), expected.astype(np.float32), equal_nan=True)


@given(tables)
def test_votes_of_a_draw_sum_to_one(errors: Table) -> None:
    votes = 1 - majority(errors)
    assert np.allclose(votes.sum(axis=0), 1)
    winners = errors == errors.min(axis=0)
    assert np.allclose(votes, winners / winners.sum(axis=0))  # ties share


@given(tables)
def test_mean_does_not_change_the_errors(errors: Table) -> None:
    assert mean(errors) is errors


@pytest.mark.parametrize("name", VOTES)
@given(errors=tables)
def test_noise_common_to_all_classes_changes_nothing(name: str, errors: Table) -> None:
    shift = np.arange(errors.shape[1], dtype=np.float32)
    assert np.array_equal(ranking(VOTES[name](errors)), ranking(VOTES[name](errors + shift)))


@pytest.mark.parametrize("vote", [rank, majority])
@given(errors=tables)
def test_order_alone_counts(vote: type, errors: Table) -> None:
    assert np.array_equal(vote(errors), vote(errors**3 + 2 * errors))


@pytest.mark.parametrize("name", VOTES)
def test_missing_values_stay_missing(name: str) -> None:
    errors = np.array([[1, 2, np.nan], [3, np.nan, np.nan], [2, 1, 5]], dtype=np.float32)
    assert np.array_equal(np.isnan(VOTES[name](errors)), np.isnan(errors))


def test_one_outlier_changes_the_winner_of_the_mean_alone() -> None:
    errors = np.array([[1, 1, 1, 90], [2, 2, 2, 0]], dtype=np.float32)
    assert [ranking(VOTES[name](errors))[0] for name in ("mean", "rank", "majority")] == [1, 0, 0]
