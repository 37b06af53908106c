"""Searches on tables of random errors: requests, termination and ranking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from diffcls.diffusion.draws import nested_order
from diffcls.search import SEARCHES
from diffcls.search.base import Search
from diffcls.search.error_table import Table, counts, leader, means, ranking, scores
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.halving import Halving
from diffcls.search.paper import Paper
from diffcls.search.racing import MIN_RIVALS_FOR_PROFILE, Racing, _around_profile, order_in_time
from diffcls.search.screening import ScreenedSearch
from diffcls.support.errors import UsageError

pytestmark = pytest.mark.filterwarnings("error")

# draws -> a search of so many draws a class at most
MAKE: dict[str, Callable[[int], Search]] = {
    "exhaustive": lambda n: Exhaustive(n),
    "racing": lambda n: Racing(n),
    "racing, daring": lambda n: Racing(n, confidence=0.6, start=3, prior=1.0),
    "racing, budget": lambda n: Racing(n, budget=30),
    "halving": lambda n: Halving(n, start=min(4, n)),
    "paper": lambda n: Paper((max(1, n // 6), max(1, n // 2), n), (4, 2, 1)),
    "paper, equal stages": lambda n: Paper((max(1, n // 2), max(1, n // 2), n), (3, 3, 1)),
}
each_search = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
CLASSES, DRAWS, SEEDS = st.integers(2, 8), st.integers(1, 40), st.integers(0, 2**32 - 1)
FEWER = settings(max_examples=40)


def empty(classes: int, draws: int) -> Table:
    return np.full((classes, draws), np.nan, np.float32)


def run(search: Search, truth: Any) -> tuple[Table, int]:
    """The table when the search is done, and the evaluations made; each request is checked."""
    table, made = empty(*truth.shape), 0
    while True:
        table.flags.writeable = False  # ask must not mark anything in it
        wanted = search.ask(table)
        again = search.ask(table.copy())
        assert (wanted is None) == (again is None)
        if wanted is None:
            return table, made
        assert (wanted == again).all()
        assert len(wanted)  # or it would go on for ever
        assert len(np.unique(wanted, axis=0)) == len(wanted)
        k, draw = wanted.T
        assert np.isnan(table[k, draw]).all()
        table = table.copy()
        table[k, draw] = truth[k, draw]
        made += len(wanted)


def races(classes: int, draws: int, spread: float, seed: int) -> Any:
    """(K, N): a large noise common to all classes, one of its own for each, means `spread` apart"""
    rng = np.random.default_rng(seed)
    common, gaps = 5 * rng.normal(size=draws), spread * rng.normal(size=(classes, 1))
    return (common + gaps + rng.normal(size=(classes, draws))).astype(np.float32)


# ---- what holds of every search ----------------------------------------------------------------


def test_every_search_that_can_be_named_is_tested_here() -> None:
    # these race on what a screen leaves, and need more than a table: see test_screens.py
    screened = {name for name in SEARCHES if issubclass(SEARCHES.load(name), ScreenedSearch)}
    assert screened == {"tree", "gradient", "propose"}
    assert {name.split(",")[0] for name in MAKE} == set(SEARCHES) - screened
    for name, make in MAKE.items():
        assert type(make(12)) is SEARCHES.load(name.split(",")[0])


@each_search
@FEWER
@given(classes=CLASSES, draws=DRAWS, seed=SEEDS, ties=st.booleans())
def test_search_ends_requests_nothing_twice_and_ranks_its_leader_first(
    make: Callable[[int], Search], classes: int, draws: int, seed: int, ties: bool
) -> None:
    truth = races(classes, draws, 1.0, seed)
    if ties:
        truth = np.float32(truth > 0)
    search = make(draws)
    table, made = run(search, truth)
    n = counts(table)
    assert made == n.sum() <= truth.size
    assert all((~np.isnan(row[:m])).all() for row, m in zip(table, n, strict=True))
    ranked = search.rank(table)
    assert sorted(ranked) == list(range(classes))
    assert ranked[0] == leader(table)
    assert n[ranked[0]] == n.max()
    assert means(table)[ranked[0]] == means(table)[n == n.max()].min()


@each_search
@FEWER
@given(classes=CLASSES, draws=DRAWS, seed=SEEDS)
def test_noise_common_to_all_classes_of_a_draw_changes_nothing(
    make: Callable[[int], Search], classes: int, draws: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # in 256ths, so that adding is exact
    truth = (rng.integers(0, 1024, (classes, draws)) / 256).astype(np.float32)
    moved = truth + rng.integers(0, 4096, draws).astype(np.float32)
    search = make(draws)
    (table, _), (other, _) = run(search, truth), run(search, moved)
    assert (np.isnan(table) == np.isnan(other)).all()
    assert (search.rank(table) == search.rank(other)).all()


@each_search
@FEWER
@given(classes=CLASSES, draws=DRAWS, seed=SEEDS)
def test_order_of_classes_does_not_matter(
    make: Callable[[int], Search], classes: int, draws: int, seed: int
) -> None:
    truth = races(classes, draws, 1.0, seed)
    order = np.random.default_rng(seed).permutation(classes)
    search = make(draws)
    (table, _), (other, _) = run(search, truth), run(search, truth[order])
    assert (np.isnan(table)[order] == np.isnan(other)).all()
    assert (order[search.rank(other)] == search.rank(table)).all()


@each_search
def test_class_that_is_best_at_every_draw_wins(make: Callable[[int], Search]) -> None:
    for best in range(6):
        truth = races(6, 24, 0.0, best)
        truth[best] = truth.min(axis=0) - 1
        search = make(24)
        assert search.rank(run(search, truth)[0])[0] == best


@each_search
def test_plan_has_one_index_of_the_schedule_for_each_draw(make: Callable[[int], Search]) -> None:
    plan = make(24).plan(1000)
    assert len(set(plan)) == 24
    assert 0 <= plan.min() <= plan.max() < 1000


OUT_OF_RANGE: list[Callable[[], Any]] = [
    *(lambda n=n: Exhaustive(n) for n in (0, 100_001, 2.5)),
    lambda: Halving(10, start=0),
    *(lambda p=p: Racing(confidence=p) for p in (0.0, 1.0)),
    lambda: Racing(start=1),
    lambda: Racing(prior=0.0),
    lambda: Racing(budget=0),
    lambda: Racing(budget=9).ask(empty(10, 100)),
    *(lambda keep=keep: Paper((50, 500), keep) for keep in ((5, 2), (1,), (5, 6))),
    *(lambda samples=samples: Paper(samples, (5, 1)) for samples in ((500, 50), (0, 50), ())),
    lambda: Paper((50, 1001), (5, 1)).plan(1000),
]


@pytest.mark.parametrize("make", OUT_OF_RANGE)
def test_options_out_of_range_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(UsageError, match=r"out of range|do not match|does not allow"):
        make()


def test_halving_with_fewer_draws_than_its_start_gives_every_class_all_of_them() -> None:
    truth = np.arange(12.0).reshape(4, 3)
    table, made = run(Halving(draws=3, start=4), truth)
    assert made == truth.size and np.array_equal(table, truth.astype(np.float32))


# ---- exhaustive, paper, halving ----------------------------------------------------------------


@given(CLASSES, DRAWS, SEEDS)
def test_exhaustive_covers_all_and_takes_the_least_mean(
    classes: int, draws: int, seed: int
) -> None:
    truth = races(classes, draws, 1.0, seed)
    table, made = run(Exhaustive(draws), truth)
    assert made == truth.size
    asked = Exhaustive(draws).ask(empty(classes, draws))
    assert asked.tolist() == [[k, draw] for draw in range(draws) for k in range(classes)]
    assert (table == truth).all()
    assert (ranking(table) == np.argsort(truth.astype(np.float64).mean(axis=1))).all()


@given(SEEDS)
def test_paper_keeps_the_classes_of_least_mean_over_all_their_samples_so_far(seed: int) -> None:
    truth = races(12, 500, 0.3, seed)
    table, _ = run(Paper((20, 50, 100, 500), (8, 4, 2, 1)), truth)
    alive = np.arange(12)
    # 20 of 500 and 50 of 500 do not nest: see the published order of draws
    for end, keep in ((20, 8), (70, 4), (150, 2), (500, 1)):
        assert (counts(table)[alive] >= end).all()
        assert (np.delete(counts(table), alive) < end).all()
        mean = truth[alive, :end].astype(np.float64).mean(axis=1)
        alive = alive[np.argsort(mean)[:keep]]
    assert ranking(table)[0] == alive[0]


@pytest.mark.parametrize(("rounds", "start"), [(1, 4), (3, 1), (4, 5), (7, 2)])
def test_halving_of_a_power_of_two_makes_start_k_log2_k_and_one_over_two(
    rounds: int, start: int
) -> None:
    classes = 2**rounds
    truth = races(classes, start * classes, 1.0, rounds)
    _, made = run(Halving(start * classes, start), truth)
    assert made == start * classes * (rounds + 1) / 2


@given(CLASSES, DRAWS, st.integers(1, 8), SEEDS)
def test_halving_halves_the_classes_and_doubles_their_draws(
    classes: int, draws: int, start: int, seed: int
) -> None:
    start = min(start, draws)
    table, _ = run(Halving(draws, start), races(classes, draws, 1.0, seed))
    expected, alive, each = [], classes, start
    while alive > 1 and each < draws:
        better = -(-alive // 2)
        if better == 1:
            break
        expected += [each] * (alive - better)
        alive, each = better, min(2 * each, draws)
    assert sorted(counts(table)) == expected + [each] * alive


# ---- racing ------------------------------------------------------------------------------------

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
    # one other rival was seen on four draws: it counts for three degrees, as the class itself does
    v = (3 * pooled + 3 * own) / 6
    t = stats.t(df=6).ppf(1 - (1 - confidence) / 2)
    bound = t * np.sqrt(v * (1 / 4 - 1 / 8))
    for factor in (0.999, 1.001):
        table = empty(3, 8)
        table[:, :4] = LEADS
        for row, rival in ((1, STEADY), (2, CLOSE)):
            # moved up or down as a whole, so that the differences' spread stays
            mean = bound * factor if rival is behind else bound / 9
            table[row, :4] += np.array(rival) - np.mean(rival) + mean
        wanted = Racing(8, confidence).ask(table)
        left = {0} if wanted is None else set(wanted[:, 0])
        assert ((1 if behind is STEADY else 2) in left) == (factor < 1)
        assert wanted is None or set(wanted[:, 1]) == {4}


def test_bound_of_two_classes_after_two_draws_is_known_in_closed_form() -> None:
    # one degree of freedom: the quantile of Cauchy's distribution, tan(π·(p − ½))
    bound = np.tan(0.3 * np.pi) * np.sqrt(1 / 2 * (1 / 2 - 1 / 40))
    for mean, races_on in ((0.999 * bound, True), (1.001 * bound, False)):
        table = empty(2, 40)
        table[:, :2] = [[3.0, 5.0], [3.0 + mean + 0.5, 5.0 + mean - 0.5]]
        assert (Racing(confidence=0.8).ask(table) is not None) == races_on


@FEWER
@given(classes=CLASSES, draws=st.integers(2, 40), seed=SEEDS)
def test_after_all_draws_nothing_is_left_in_doubt(classes: int, draws: int, seed: int) -> None:
    truth = races(classes, draws, 0.0, seed)
    for confidence in (0.5, 0.999999):
        dropped = Racing(draws, confidence)._dropped(truth, classes)
        assert np.flatnonzero(~dropped).tolist() == [leader(truth)]
    # nor is it with the same draws out of more, or there would be nothing to race for
    assert Racing(1000 * draws, 0.999999)._dropped(truth, classes).sum() < classes - 1


def test_draws_are_taken_in_order_of_time() -> None:
    for draws in range(1, 130):
        assert (np.diff(nested_order(1000, draws)[order_in_time(draws)]) > 0).all()


def test_a_crowd_shares_its_profile_over_time_and_a_few_do_not() -> None:
    # every rival is behind by a size of its own times one profile that all share: no noise at all
    profile = np.array([1.0, 3.0, 2.0, 0.5])
    for rivals in (MIN_RIVALS_FOR_PROFILE - 1, MIN_RIVALS_FOR_PROFILE, MIN_RIVALS_FOR_PROFILE + 1):
        table = empty(rivals + 1, 40)
        table[:, :4] = 5.0 + np.linspace(0, 1, rivals + 1)[:, None] * profile
        wanted = Racing().ask(table)
        alive = {0} if wanted is None else set(wanted[:, 0])
        assert (len(alive) == 1) == (rivals >= MIN_RIVALS_FOR_PROFILE)


def test_variance_around_a_profile_is_that_of_a_regression_through_the_origin() -> None:
    rng = np.random.default_rng(8)
    difference = rng.normal(1, 0.3, (30, 6)) * rng.uniform(0.5, 2, 6)
    spread = difference.std(axis=0)
    for row, found in zip(difference, _around_profile(difference), strict=True):
        (_,), (rest,), *_ = np.linalg.lstsq(spread[:, None], row, rcond=None)
        assert found == pytest.approx(rest / 5)
    assert (_around_profile(np.zeros((4, 3))) == 0).all()


GAPS: dict[str, Callable[[int, np.random.Generator], Any]] = {
    "all classes equal": lambda classes, rng: np.zeros(classes),
    "a near tie": lambda classes, rng: np.array([0.0, 0.1, *[2.0] * (classes - 2)]),
    # by half a standard deviation of a difference, which is √2
    "one ahead of all": lambda classes, rng: np.sqrt(0.5) * (np.arange(classes) > 0),
    "gaps of all sizes": lambda classes, rng: rng.exponential(1.0, classes),
}


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("draws", [25, 50])
@pytest.mark.parametrize(
    ("classes", "count"), [(2, 300), (10, 80), (MIN_RIVALS_FOR_PROFILE + 5, 30)]
)
@pytest.mark.parametrize("gaps", GAPS.values(), ids=GAPS)
def test_class_that_is_ahead_for_sure_after_all_draws_is_dropped_as_rarely_as_was_said(
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
        while (wanted := search.ask(table)) is not None:
            table[tuple(wanted.T)] = truth[tuple(wanted.T)]
        mean = truth.mean(axis=1)
        # what won, against any other: by more than two standard errors of their difference
        wrong += int((mean[search.rank(table)[0]] - mean > 2 * np.sqrt(2 / draws)).any())
        early += int(np.isnan(table).any())
    allowed = count * (1 - confidence)
    assert wrong <= allowed + 3 * np.sqrt(allowed * confidence)
    assert early > count / 3  # or it would have been no race


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_one_look_rarely_drops_the_class_that_the_full_table_puts_first(
    confidence: float, n: int
) -> None:
    search, wrong = Racing(50, confidence), 0
    for seed in range(1000):
        truth = races(10, 50, 0.0, seed)  # all classes alike: the hardest case
        table = empty(10, 50)
        table[:, :n] = truth[:, :n]
        wanted = search.ask(table)
        left = [leader(table)] if wanted is None else wanted[:, 0]
        wrong += truth.astype(np.float64).mean(axis=1).argmin() not in left
    assert wrong <= 1000 * (1 - confidence)


def test_a_thousand_races_end_early_and_as_the_full_table_would() -> None:
    search, wrong, made = Racing(50, confidence=0.9), 0, 0
    for seed in range(1000):
        truth = races(6, 50, 1.0, seed)
        table, evaluations = empty(6, 50), 0
        while (wanted := search.ask(table)) is not None:
            table[tuple(wanted.T)] = truth[tuple(wanted.T)]
            evaluations += len(wanted)
        wrong += int(search.rank(table)[0] != truth.astype(np.float64).mean(axis=1).argmin())
        made += evaluations
    assert wrong <= 100
    assert made < 1000 * 6 * 50 / 3


def test_more_confidence_asks_for_more() -> None:
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
        assert made + classes > budget  # another draw of all would not have fitted


# ---- the table and its scores ------------------------------------------------------------------

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


def test_nothing_evaluated_is_a_table_too() -> None:
    table = empty(3, 5)
    assert (means(table) == np.inf).all()
    assert (scores(table) == -np.inf).all()
    assert ranking(table).tolist() == [0, 1, 2]


def test_equal_scores_keep_the_order_of_classes() -> None:
    table = np.float32([[k % 2] * 3 for k in range(1, 101)])  # so many that sorting could mix them
    assert ranking(table).tolist() == [*range(1, 100, 2), *range(0, 100, 2)]
