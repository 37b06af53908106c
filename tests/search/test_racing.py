"""Racing: its bound, its error probability on random races, and its budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.races import CLASSES, DRAWS, FEWER, SEEDS, empty, races, run
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from diffcls.diffusion.draws import nested_order
from diffcls.search.error_table import counts, leader
from diffcls.search.racing import MIN_RIVALS_FOR_PROFILE, Racing, _around_profile, order_in_time

pytestmark = pytest.mark.filterwarnings("error")

# four of eight draws of three classes; in order of time the draws are 3, 1, 0, 2
LEADS = [5.0, 7.0, 6.0, 8.0]
STEADY = [2.0, 3.0, 4.0, 1.0]  # behind by 1, 3, 2, 4: ½·(2² + 1² + 2²)/3 = 3/2
CLOSE = [1.0, 0.5, 0.0, 0.5]  # behind by ½, ½, 1, 0: ½·(0 + ¼ + 1)/3 = 5/24


@pytest.mark.parametrize(("behind", "own"), [(STEADY, 3 / 2), (CLOSE, 5 / 24)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_bound_of_a_table_worked_by_hand(
    behind: list[float], own: float, confidence: float
) -> None:
    pooled = (3 / 2 + 5 / 24) / 2
    # one other rival on four draws has three degrees of freedom, like the class itself
    v = (3 * pooled + 3 * own) / 6
    t = stats.t(df=6).ppf(1 - (1 - confidence) / 2)
    bound = t * np.sqrt(v * (1 / 4 - 1 / 8))
    for factor in (0.999, 1.001):
        table = empty(3, 8)
        table[:, :4] = LEADS
        for row, rival in ((1, STEADY), (2, CLOSE)):
            # shifted as a whole, so that the variance of the differences stays the same
            mean = bound * factor if rival is behind else bound / 9
            table[row, :4] += np.array(rival) - np.mean(rival) + mean
        requested = Racing(8, confidence).ask(table)
        left = {0} if requested is None else set(requested[:, 0])
        assert ((1 if behind is STEADY else 2) in left) == (factor < 1)
        assert requested is None or set(requested[:, 1]) == {4}


def test_bound_of_two_classes_after_two_draws_is_known_in_closed_form() -> None:
    # one degree of freedom: the quantile of Cauchy's distribution, tan(π·(p − ½))
    bound = np.tan(0.3 * np.pi) * np.sqrt(1 / 2 * (1 / 2 - 1 / 40))
    for mean, races_on in ((0.999 * bound, True), (1.001 * bound, False)):
        table = empty(2, 40)
        table[:, :2] = [[3.0, 5.0], [3.0 + mean + 0.5, 5.0 + mean - 0.5]]
        assert (Racing(confidence=0.8).ask(table) is not None) == races_on


@FEWER
@given(classes=CLASSES, draws=st.integers(2, 40), seed=SEEDS)
def test_after_all_draws_only_the_leader_is_left(classes: int, draws: int, seed: int) -> None:
    truth = races(classes, draws, 0.0, seed)
    for confidence in (0.5, 0.999999):
        dropped = Racing(draws, confidence)._dropped(truth, classes)
        assert np.flatnonzero(~dropped).tolist() == [leader(truth)]
    # with as many draws out of more, uncertainty is left
    assert Racing(1000 * draws, 0.999999)._dropped(truth, classes).sum() < classes - 1


def test_draws_are_taken_in_order_of_time() -> None:
    for draws in range(1, 130):
        assert (np.diff(nested_order(1000, draws)[order_in_time(draws)]) > 0).all()


def test_profile_over_time_is_removed_from_many_rivals_only() -> None:
    # every rival's difference is a factor of its own times a common profile, without noise
    profile = np.array([1.0, 3.0, 2.0, 0.5])
    for rivals in (MIN_RIVALS_FOR_PROFILE - 1, MIN_RIVALS_FOR_PROFILE, MIN_RIVALS_FOR_PROFILE + 1):
        table = empty(rivals + 1, 40)
        table[:, :4] = 5.0 + np.linspace(0, 1, rivals + 1)[:, None] * profile
        requested = Racing().ask(table)
        alive = {0} if requested is None else set(requested[:, 0])
        assert (len(alive) == 1) == (rivals >= MIN_RIVALS_FOR_PROFILE)


def test_variance_around_a_profile_is_that_of_a_regression_through_the_origin() -> None:
    rng = np.random.default_rng(8)
    difference = rng.normal(1, 0.3, (30, 6)) * rng.uniform(0.5, 2, 6)
    spread = difference.std(axis=0)
    for row, variance in zip(difference, _around_profile(difference), strict=True):
        (_,), (rest,), *_ = np.linalg.lstsq(spread[:, None], row, rcond=None)
        assert variance == pytest.approx(rest / 5)
    assert (_around_profile(np.zeros((4, 3))) == 0).all()


GAPS: dict[str, Callable[[int, np.random.Generator], Any]] = {
    "all classes equal": lambda classes, rng: np.zeros(classes),
    "a near tie": lambda classes, rng: np.array([0.0, 0.1, *[2.0] * (classes - 2)]),
    # by half a standard deviation of a difference, which is √2
    "one ahead of all": lambda classes, rng: np.sqrt(0.5) * (np.arange(classes) > 0),
    "gaps of all sizes": lambda classes, rng: rng.exponential(1.0, classes),
}


@pytest.mark.parametrize(
    ("draws", "confidence"),
    [
        (25, 0.8),
        (50, 0.95),
        pytest.param(25, 0.95, marks=pytest.mark.slow),
        pytest.param(50, 0.8, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("classes", "count"), [(2, 300), (10, 80), (MIN_RIVALS_FOR_PROFILE + 5, 30)]
)
@pytest.mark.parametrize("gaps", GAPS.values(), ids=GAPS)
def test_class_clearly_ahead_in_the_full_table_is_dropped_as_rarely_as_promised(
    gaps: Callable[[int, np.random.Generator], Any],
    classes: int,
    count: int,
    draws: int,
    confidence: float,
) -> None:
    rng, search = np.random.default_rng(classes * draws), Racing(draws, confidence)
    wrong = early = 0
    for _ in range(count):
        truth = gaps(classes, rng)[:, None] + rng.normal(size=(classes, draws))
        table = empty(classes, draws)
        while (requested := search.ask(table)) is not None:
            table[tuple(requested.T)] = truth[tuple(requested.T)]
        mean = truth.mean(axis=1)
        # the winner is behind another class by more than two standard errors of the difference
        wrong += int((mean[search.rank(table)[0]] - mean > 2 * np.sqrt(2 / draws)).any())
        early += int(np.isnan(table).any())
    allowed = count * (1 - confidence)
    assert wrong <= allowed + 3 * np.sqrt(allowed * confidence)
    assert early > count / 3  # many races end early


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_one_round_rarely_drops_the_best_class_of_the_full_table(confidence: float, n: int) -> None:
    search, wrong = Racing(50, confidence), 0
    for seed in range(1000):
        truth = races(10, 50, 0.0, seed)  # all classes alike: the hardest case
        table = empty(10, 50)
        table[:, :n] = truth[:, :n]
        requested = search.ask(table)
        left = [leader(table)] if requested is None else requested[:, 0]
        wrong += truth.astype(np.float64).mean(axis=1).argmin() not in left
    assert wrong <= 1000 * (1 - confidence)


@pytest.mark.slow
def test_a_thousand_races_end_early_and_agree_with_the_full_table() -> None:
    search, wrong, made = Racing(50, confidence=0.9), 0, 0
    for seed in range(1000):
        truth = races(6, 50, 1.0, seed)
        table, evaluations = empty(6, 50), 0
        while (requested := search.ask(table)) is not None:
            table[tuple(requested.T)] = truth[tuple(requested.T)]
            evaluations += len(requested)
        wrong += int(search.rank(table)[0] != truth.astype(np.float64).mean(axis=1).argmin())
        made += evaluations
    assert wrong <= 100
    assert made < 1000 * 6 * 50 / 3


@pytest.mark.slow
def test_more_confidence_costs_more_evaluations() -> None:
    truth = [races(8, 60, 0.5, seed) for seed in range(40)]
    made = [
        sum(run(Racing(60, confidence), table)[1] for table in truth)
        for confidence in (0.5, 0.9, 0.99, 0.9999)
    ]
    assert made == sorted(set(made))


@given(CLASSES, DRAWS, st.none() | st.integers(8, 400))
def test_racing_of_ties_is_exhaustive_until_the_budget(
    classes: int, draws: int, budget: int | None
) -> None:
    truth = np.broadcast_to(races(1, draws, 0.0, draws), (classes, draws))
    table, made = run(Racing(draws, budget=budget), truth)
    columns = draws if budget is None else min(draws, budget // classes)
    assert made == classes * columns
    assert (counts(table) == columns).all()


@FEWER
@given(CLASSES, DRAWS, st.integers(0, 300), SEEDS)
def test_budget_is_never_exceeded_and_does_nothing_while_it_lasts(
    classes: int, draws: int, more: int, seed: int
) -> None:
    truth, budget = races(classes, draws, 0.3, seed), classes + more
    table, made = run(Racing(draws, budget=budget), truth)
    assert made <= budget
    free, made_free = run(Racing(draws), truth)
    if made_free <= budget and min(Racing().start, draws) * classes <= budget:
        assert np.array_equal(table, free, equal_nan=True)
    else:
        assert made + classes > budget  # the budget does not allow another draw of all classes
