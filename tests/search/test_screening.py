"""Screens on synthetic errors: they end within their limits and keep the best class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers.screenings import (
    CLASSES,
    FEWER,
    GRADIENTS,
    LEARNED,
    SEEDS,
    cost,
    drive,
    noisy,
    start,
)
from hypothesis import given
from hypothesis import strategies as st

from diffcls.classifiers.search_options import most_evaluations
from diffcls.data.prompts import PromptSet
from diffcls.search.gradient import Gradient
from diffcls.search.learned import Learned
from diffcls.search.propose import Proposal, Propose
from diffcls.search.screening import last_differences
from diffcls.support.errors import UsageError

pytestmark = pytest.mark.filterwarnings("error")


@FEWER
@given(st.one_of(GRADIENTS, LEARNED), CLASSES, SEEDS, st.sampled_from([0.0, 0.3, 30.0]))
def test_shortlist_and_cost_stay_within_the_declared_limits(
    options: Gradient | Learned, classes: int, seed: int, spread: float
) -> None:
    truth = np.random.default_rng(seed).normal(size=classes)
    screening = start(options, classes, seed)
    probes = drive(screening, noisy(truth, seed, spread))
    most, left = options.screen.limits(classes)
    assert 1 <= len(screening.shortlist) <= left == min(classes, options.candidates)
    assert cost(probes) <= most
    assert all(0 <= probe.draw < options.draws for probe in probes)
    for leader in screening.shortlist:
        deficits = screening.deficits(int(leader))
        assert deficits.shape == (classes,) and np.isfinite(deficits).all()
        assert (deficits[screening.shortlist] == 0).all()
        assert (np.delete(deficits, screening.shortlist) > 0).all()


@FEWER
@given(GRADIENTS, CLASSES, SEEDS)
def test_the_best_class_survives_where_errors_are_far_apart(
    options: Gradient, classes: int, seed: int
) -> None:
    truth = np.random.default_rng(seed).permutation(classes).astype(np.float64)
    screening = start(options, classes, seed)
    # noise a hundredth of the least gap
    drive(screening, noisy(truth, seed, 0.002))
    best = int(truth.argmin())
    assert best in screening.shortlist
    if classes > options.candidates:
        assert set(screening.shortlist.tolist()) == set(np.argsort(truth)[: options.candidates])


@pytest.mark.parametrize(
    "options", [Gradient(), Gradient(candidates=1), Gradient(candidates=2, width=3)], ids=repr
)
@pytest.mark.parametrize("classes", [2, 3, 6, 7, 40])
def test_classes_with_equal_errors_keep_their_order(options: Gradient, classes: int) -> None:
    screenings = [start(options, classes) for _ in range(2)]
    for screening in screenings:
        drive(screening, noisy(np.ones(classes), 0, 0.0))
    assert np.array_equal(screenings[0].shortlist, screenings[1].shortlist)
    assert np.array_equal(
        screenings[0].deficits(screenings[0].shortlist[0]), screenings[1].deficits(0)
    )
    assert screenings[0].shortlist.tolist() == list(range(min(classes, options.candidates)))


@pytest.mark.parametrize("options", [Gradient(candidates=9), Learned(candidates=9)], ids=repr)
@pytest.mark.parametrize("classes", [2, 9])
def test_no_more_classes_than_candidates_are_raced_at_once(
    classes: int, options: Gradient | Learned
) -> None:
    screening = start(options, classes)
    assert screening.request() is None
    assert screening.shortlist.tolist() == list(range(classes))
    assert not screening.deficits(0).any()
    assert options.screen.limits(classes) == (0, classes)


def test_a_thousand_classes_cost_less_than_one_evaluation_each() -> None:
    options = Gradient(40)
    truth = np.random.default_rng(1).uniform(1, 2, 1000)
    truth[777] = 0.0
    screening = start(options, 1000)
    probes = drive(screening, noisy(truth, 1, 0.01))
    assert 777 in screening.shortlist
    assert cost(probes) < 1000
    assert 0 < cost(probes) <= options.screen.limits(1000)[0]


def test_a_budget_is_refused_as_the_race_does_not_know_the_cost_of_its_screen() -> None:
    for kind in (Gradient, Learned, Propose):
        with pytest.raises(UsageError, match=r"--max-evaluations.*without a screen: 50"):
            kind(budget=50, proposer="x") if kind is Propose else kind(budget=50)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gradient(candidates=0), "candidates out of range: 0; allowed: 1 or more"),
        (lambda: Gradient(round_draws=0), "round_draws out of range: 0"),
        (lambda: Gradient(place=1.1), r"place out of range: 1.1; allowed: \[0, 1\]"),
        (lambda: Gradient(density=0), "density out of range: 0; allowed: above 0"),
        (lambda: Gradient(width=float("inf")), "width out of range: inf"),
        (lambda: Gradient(shrink=1.0), r"shrink out of range: 1.0; allowed: \(0, 1\)"),
        (lambda: Gradient(shrink=float("nan")), "shrink out of range: nan"),
        (lambda: Gradient(draws=0), "draws out of range"),
        (lambda: Gradient(candidates=-1), "candidates out of range: -1"),
        (lambda: Learned(candidates=0), "candidates out of range: 0"),
        (lambda: Learned(looks=0), "looks out of range: 0; allowed: 1 or more"),
        (lambda: Learned(fit_images=49), "fit_images out of range: 49; allowed: 50 or more"),
        (lambda: Learned(fit_classes=9), "fit_classes out of range: 9; allowed: 10 or more"),
        (lambda: Learned(confidence=1.0), "confidence out of range: 1.0"),
        (lambda: Propose(), "--search propose needs a CLIP model"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_deficit_is_that_of_the_last_round_in_which_a_class_took_part() -> None:
    rounds = [np.array([3.0, 1.0, 2.0, 9.0]), np.array([0.5, 0.25, np.nan, np.nan])]
    deficits = last_differences(rounds, np.array([1]), leader=1)
    assert deficits.tolist() == [0.25, 0.0, 1.0, 8.0]
    # a class that was better once and was screened out has a tiny deficit
    deficits = last_differences([np.array([1.0, 5.0])], np.array([1]), leader=1)
    assert 0 < deficits[0] < 1e-30 and deficits[1] == 0


# ---- candidates proposed by CLIP ----------------------------------------------------------------


def test_the_most_likely_classes_are_proposed_and_the_others_keep_their_order() -> None:
    likely = np.array([0.1, 0.7, 0.3, 0.7, -0.2, 0.2], dtype=np.float32)
    proposal = Proposal(likely, 3)
    assert proposal.request() is None
    assert proposal.shortlist.tolist() == [1, 2, 3]
    deficits = proposal.deficits(3)
    assert (deficits[[1, 2, 3]] == 0).all()
    assert np.argsort(deficits)[3:].tolist() == [5, 0, 4]
    assert (np.diff(np.sort(deficits)[2:]) > 100).all()  # errors are about 1
    all_classes = Proposal(likely, 6)
    assert all_classes.shortlist.tolist() == list(range(6)) and not all_classes.deficits(0).any()
    tied = Proposal(np.zeros(4), 2)
    assert tied.shortlist.tolist() == [0, 1]


# ---- maximum cost of an image -------------------------------------------------------------------


def test_the_maximum_cost_is_that_of_the_screen_and_of_a_race_to_the_end() -> None:
    one = PromptSet.from_templates([f"{k}" for k in range(10)], ["{}"])
    # 10 classes: 2 points of three evaluations; then 3 classes × 20 draws
    gradient = Gradient(20, candidates=3, width=1)
    assert most_evaluations(gradient, one) == 2 * 3 + 3 * 20
    # two probed points of three evaluations, looks at no more classes than there are
    assert most_evaluations(Learned(20, candidates=3, looks=7), one) == 2 * 3 + 7 + 3 * 20
    assert most_evaluations(Learned(20, candidates=3, looks=70), one) == 2 * 3 + 10 + 3 * 20
    # a probe costs the same for any number of prompts; a race counts prompts
    two = PromptSet.from_templates([f"{k}" for k in range(10)], ["{}", "a {}"])
    assert most_evaluations(gradient, two) == 2 * 3 + 2 * 3 * 20
    assert most_evaluations(Propose(20, candidates=3, proposer="x"), two) == 2 * 3 * 20
