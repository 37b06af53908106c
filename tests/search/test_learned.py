"""Learned screening on synthetic errors: an exact prediction needs few looks, a useless one all."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.screenings import (
    CLASSES,
    FEWER,
    LEARNED,
    SEEDS,
    cost,
    drive,
    embeddings,
    noisy,
    screen_fit,
    start_learned,
)
from hypothesis import given

from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.search.learned import CLASSES_PER_ROUND, Learned, LearnedScreening
from diffcls.search.racing import order_in_time
from diffcls.support.errors import UsageError

pytestmark = pytest.mark.filterwarnings("error")


@FEWER
@given(LEARNED, CLASSES, SEEDS)
def test_without_a_prediction_infinite_caution_measures_all_classes_and_keeps_the_best(
    options: Learned, classes: int, seed: int
) -> None:
    options = replace(options, looks=classes)
    truth = np.random.default_rng(seed).permutation(classes).astype(np.float64)
    fit = screen_fit(embeddings(classes, seed), trust=0.0, caution=math.inf)
    screening = start_learned(options, classes, fit)
    # noise a hundredth of the least gap
    probes = drive(screening, noisy(truth, seed, 0.002))
    best = np.argsort(truth)[: options.candidates]
    assert screening.shortlist.tolist() == sorted(best.tolist())
    if classes > options.candidates:
        looked = [probe.members for probe in probes if not probe.gradient]
        assert sorted(looked) == [(k,) for k in range(classes)]


@pytest.mark.parametrize("looks", [10, 13, 50, 64, 1000])
def test_infinite_caution_takes_all_looks_and_no_more(looks: int) -> None:
    options = Learned(looks=looks)
    fit = screen_fit(embeddings(200, 0), trust=0.5, caution=math.inf)
    truth = np.random.default_rng(0).normal(size=200)
    probes = drive(start_learned(options, 200, fit), noisy(truth, 0, 0.1))
    assert cost(probes) == 2 * 3 + min(looks, 200) == options.screen.limits(200)[0]


def test_an_exact_prediction_needs_few_looks() -> None:
    options, classes = Learned(), 1000
    truth = np.random.default_rng(1).permutation(np.linspace(1, 2, classes))
    fit = screen_fit(np.zeros((classes, 1)), trust=1.0, caution=5.0, noise=1e-9)
    screening = start_learned(options, classes, fit)
    probes = drive(screening, noisy(truth, 1, 0.0))
    best = np.argsort(truth)
    # rounds of four until ten classes are measured
    looks = -(-options.candidates // CLASSES_PER_ROUND) * CLASSES_PER_ROUND
    assert [p.members[0] for p in probes[2:]] == best[:looks].tolist()
    assert screening.shortlist.tolist() == sorted(best[:10].tolist())
    # what is known of the classes that were not measured is their prediction
    deficits = screening.deficits(int(best[0]))
    expected = truth - truth[best[0]]
    expected[best[:10]] = 0.0
    assert deficits == pytest.approx(expected, abs=1e-5)


def test_measured_classes_correct_the_prediction_of_similar_ones() -> None:
    options, classes = Learned(candidates=3, looks=24), 500
    rng = np.random.default_rng(2)
    embedding = rng.normal(size=(classes, 4))
    truth = embedding @ [2.0, -1.0, 0.5, 1.5]
    # the prediction knows nothing of it, the embedding does
    fit = screen_fit(embedding, trust=0.0, caution=math.inf, noise=1e-4, unit=1.0)
    screening = start_learned(options, classes, fit)
    drive(screening, noisy(truth, 2, 0.0))
    assert set(screening.shortlist.tolist()) == set(np.argsort(truth)[:3].tolist())
    # without an embedding 24 looks of 500 are a matter of luck
    blind = replace(fit, embedding=np.zeros((classes, 4)))
    luckless = start_learned(options, classes, blind)
    drive(luckless, noisy(truth, 2, 0.0))
    assert luckless.shortlist.tolist() != screening.shortlist.tolist()
    assert int(truth.argmin()) not in luckless.shortlist


@pytest.mark.parametrize("caution", [-1.0, 0.0, 0.5, 1.0, 2.0, 4.0])
def test_it_ends_at_the_first_margin_above_the_caution(caution: float) -> None:
    options = Learned(candidates=3, looks=40)
    rng = np.random.default_rng(3)
    truth = rng.normal(size=60)
    fit = screen_fit(embeddings(60, 3), trust=0.7, caution=caution, noise=0.05)
    screening = start_learned(options, 60, fit)
    whole = LearnedScreening(options.screen, fit, caution=math.inf)
    for one in (screening, whole):
        drive(one, noisy(truth, 3, 0.2))
    assert isinstance(screening, LearnedScreening) and len(whole.looked) == 40
    ends = [
        count
        for count, margin in zip(whole.counts, whole.margins, strict=True)
        if count >= 3 and margin > caution
    ]
    assert len(screening.looked) == min([*ends, 40])
    assert screening.looked == whole.looked[: len(screening.looked)]
    assert screening.margins == whole.margins[: len(screening.margins)]


def test_more_caution_never_loses_what_less_caution_keeps() -> None:
    options, lost = Learned(candidates=2, looks=40), []
    cautions = (-2.0, 0.0, 1.0, 2.0, math.inf)
    for seed in range(60):
        truth = np.random.default_rng(seed).normal(size=40)
        kept = []
        for caution in cautions:
            fit = screen_fit(embeddings(40, seed), trust=0.6, caution=caution, noise=0.2)
            screening = start_learned(options, 40, fit)
            drive(screening, noisy(truth, seed, 0.3))
            assert isinstance(screening, LearnedScreening)
            kept.append(int(truth.argmin()) in screening.looked)
        assert kept == sorted(kept)  # measured with one, measured with all above it
        lost.append(kept.count(False))
    assert max(lost) > 0 and min(lost) == 0


def test_probes_are_at_the_mean_of_all_classes_and_then_at_single_ones() -> None:
    options, classes = Learned(draws=20, candidates=2, looks=6), 9
    fit = screen_fit(embeddings(classes, 0), trust=0.0, caution=math.inf)
    probes = drive(start_learned(options, classes, fit), noisy(np.arange(9.0), 0, 0.0))
    first, rest = probes[:2], probes[2:]
    assert [probe.draw for probe in first] == list(options.probed)
    for probe in first:
        assert probe.members == tuple(range(classes))
        assert probe.gradient and probe.features and not probe.reuse
    for probe in rest:
        assert len(probe.members) == 1 and probe.draw == options.probed[0]
        assert probe.reuse and not probe.gradient and not probe.features


@pytest.mark.parametrize("draws", [3, 7, 15, 20, 40, 100, 201])
def test_classes_are_measured_on_a_draw_that_every_race_begins_with(draws: int) -> None:
    search = Learned(draws=draws)
    first, second = search.probed
    begun = search.race.ask(np.full((3, draws), np.nan, np.float32))
    assert begun is not None and first in begun[:, 1]
    # it is at about a quarter of the time, the other probed draw at 0.4
    place = {draw: rank / (draws - 1) for rank, draw in enumerate(order_in_time(draws).tolist())}
    assert place[second] == pytest.approx(0.4, abs=0.5 / (draws - 1))
    if draws > 3:
        assert place[first] == pytest.approx(0.25, abs=1 / (draws - 1))


def test_a_single_draw_is_probed_once() -> None:
    assert Learned(draws=1).probed == (0,)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_confidence_is_shared_by_screen_and_race(confidence: float) -> None:
    search = Learned(confidence=confidence)
    race = 1 - search.race.confidence
    assert race + search.allowed_loss == pytest.approx(1 - confidence)
    assert race == pytest.approx(9 * search.allowed_loss)


def test_the_shortlist_is_filled_even_with_fewer_looks() -> None:
    options = Learned(candidates=8, looks=2)
    fit = screen_fit(embeddings(30, 0), trust=1.0, caution=-math.inf)
    screening = start_learned(options, 30, fit)
    drive(screening, noisy(np.arange(30.0), 0, 0.0))
    assert len(screening.shortlist) == 8


def test_class_ids_are_refused_before_a_fit_is_made() -> None:
    prompts = PromptSet.from_templates([f"{k}" for k in range(12)], ["{}"])
    ids = Conditioning({"label": torch.arange(12)})
    with pytest.raises(UsageError, match=r"needs text prompts.*class-conditional"):
        replace(Learned().screen, fit=lambda: pytest.fail("fitted")).prepare(prompts, ids)
