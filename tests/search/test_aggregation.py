"""Aggregation of draws: ranks and votes equal scipy's, and are invariant where they must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from diffcls.search.aggregation import VOTES, log, majority, mean, rank
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


@given(tables, st.data())
def test_baseline_common_to_all_classes_cancels_from_differences_and_from_log_ratios(
    errors: Table, data: st.DataObject
) -> None:
    """So the empty prompt's error, subtracted or divided by, ranks no class otherwise."""
    drawn = data.draw(st.lists(st.integers(1, 9), min_size=errors.shape[1], max_size=60))
    baseline = np.array(drawn[: errors.shape[1]], dtype=np.float64)
    above = errors.astype(np.float64) + 1
    order = [ranking(t.astype(np.float32)) for t in (above, above - baseline)]
    assert np.array_equal(*order)
    difference = np.log(above / baseline).mean(axis=1) - log(above.astype(np.float32)).mean(axis=1)
    assert difference == pytest.approx(difference[0], abs=1e-5)


def test_logarithm_is_the_likelihood_of_a_gaussian_residual_of_unknown_variance() -> None:
    residual = np.random.default_rng(0).normal(0, 1.7, (3, 400))  # classes, dimensions
    at_best = [
        stats.norm.logpdf(r, 0, np.sqrt((r**2).mean())).sum()  # the variance of maximum likelihood
        for r in residual
    ]
    errors = (residual**2).mean(axis=1, keepdims=True).astype(np.float32)
    found = -400 / 2 * log(errors)[:, 0].astype(np.float64)
    assert np.diff(found) == pytest.approx(np.diff(at_best), abs=1e-2)


@pytest.mark.parametrize("name", ["mean", "rank", "majority"])
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
