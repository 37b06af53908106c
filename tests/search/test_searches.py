"""Searches on tables of random errors: requests, termination and ranking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.races import CLASSES, DRAWS, FEWER, MAKE, SEEDS, each_search, empty, races, run
from hypothesis import given
from hypothesis import strategies as st

from diffcls.search import SEARCHES
from diffcls.search.base import Search
from diffcls.search.error_table import counts, leader, means, ranking
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.halving import Halving
from diffcls.search.paper import Paper
from diffcls.search.racing import Racing
from diffcls.search.screening import ScreenedSearch
from diffcls.support.errors import UsageError

pytestmark = pytest.mark.filterwarnings("error")


# ---- every search -------------------------------------------------------------------------------


def test_every_search_without_a_screen_is_tested_here() -> None:
    # searches with a screen need more than a table: see test_screening.py
    screened = {name for name in SEARCHES if issubclass(SEARCHES.load(name), ScreenedSearch)}
    assert screened == {"gradient", "learned", "propose"}
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


# ---- exhaustive, paper, halving -----------------------------------------------------------------


@given(CLASSES, DRAWS, SEEDS)
def test_exhaustive_covers_all_and_takes_the_least_mean(
    classes: int, draws: int, seed: int
) -> None:
    truth = races(classes, draws, 1.0, seed)
    table, made = run(Exhaustive(draws), truth)
    assert made == truth.size
    requested = Exhaustive(draws).ask(empty(classes, draws))
    assert requested.tolist() == [[k, draw] for draw in range(draws) for k in range(classes)]
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
