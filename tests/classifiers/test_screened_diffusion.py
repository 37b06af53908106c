"""Diffusion classifier with a screen: as accurate, cheaper, independent of the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.answers import assert_independent_of_batches, assert_same, by_id, table
from helpers.screened import (
    DRAWS,
    MEAN_OF,
    NAMES,
    SCREENS,
    SIDE,
    B,
    K,
    each_screen,
    item,
    items,
    method,
)
from torch import Tensor

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.search_options import most_evaluations
from diffcls.data import catalog
from diffcls.data.dataset import Item
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image, to_pixels
from diffcls.metrics.calibration import posterior
from diffcls.models import loading
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring import batches
from diffcls.scoring.class_scores import ClassScores
from diffcls.scoring.final_scores import with_screened_out
from diffcls.search.embeddings import Points
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.gradient import Gradient
from diffcls.search.propose import Proposal
from diffcls.search.screening import EVALUATIONS_PER_GRADIENT_PROBE, ScreenedSearch

# ---- accuracy and cost --------------------------------------------------------------------------


@each_screen
def test_winners_are_those_of_all_evaluations(search: ScreenedSearch) -> None:
    chosen = items(5 * K)
    whole = by_id(method(Exhaustive(DRAWS)).classify(chosen))
    built = method(search)
    result = by_id(built.classify(chosen))
    most = most_evaluations(search, built.prompts)
    for one in chosen:
        answer = result[one.image_id]
        assert answer.error is None and answer.seconds > 0
        assert answer.ranking[0] == whole[one.image_id].ranking[0] == one.label
        assert answer.evaluations <= most
        assert answer.evaluations < K * DRAWS / 4
        raced = np.isfinite(table(answer)).any(axis=1)
        assert 1 <= raced.sum() <= search.candidates and raced[answer.ranking[0]]
    assert max(answer.evaluations for answer in result.values()) > search.screen.limits(K)[0] / 2


@each_screen
@pytest.mark.parametrize("vote", ["mean", "rank", "majority"])
def test_classes_screened_out_rank_behind_the_leader(search: ScreenedSearch, vote: str) -> None:
    for answer in method(search, vote=vote).classify(items(K)):
        assert sorted(answer.ranking) == list(range(K))
        assert np.isfinite(answer.scores).all()
        assert (np.diff(answer.scores[answer.ranking]) <= 0).all()
        raced = np.isfinite(table(answer)).any(axis=1)
        top = answer.scores[answer.ranking[0]]
        assert answer.scores.max() == top and raced[answer.ranking[0]]
        assert (answer.scores[~raced] < top).all()
        if vote != "mean":  # not errors, so deficits do not apply
            assert answer.scores[~raced].max() < answer.scores[raced].min()
        p = posterior(answer.scores, 100.0)
        assert p.sum() == pytest.approx(1) and (p >= 0).all()


def test_classes_screened_out_keep_their_deficit_from_the_screen() -> None:
    # one image, a probe at a time
    search, one = SCREENS["gradient"], item(5)
    assert isinstance(search, Gradient)
    built = method(search)
    (answer,) = built.classify([one])
    pixels = torch.from_numpy(to_pixels(load_image(one.open()), SIDE))[None]
    points = Points(built.prompts, built.scorer.cond)
    screening = search.screen.prepare(built.prompts, built.scorer.cond)(one.open)
    cost = 0
    while (probes := screening.request()) is not None:
        results = []
        for probe in probes:
            at = points.at([probe.members])
            errors, slopes = built.scorer.gradients(pixels, at, [probe.draw])
            results.append(points.first_order(errors, slopes, at)[0].numpy())
            cost += probe.evaluations
        screening.receive(results)
    raced = np.isfinite(table(answer)).any(axis=1)
    assert np.flatnonzero(raced).tolist() == screening.shortlist.tolist()
    assert answer.evaluations == cost + np.isfinite(table(answer)).sum()
    best = int(answer.ranking[0])
    expected = answer.scores[best] - screening.deficits(best)
    assert (screening.deficits(best)[~raced] > 1e-3).all()
    assert np.array_equal(answer.scores[~raced], expected[~raced])


def test_with_equal_scores_raced_classes_rank_before_those_screened_out() -> None:
    # class 2 leads by the least float; class 1 raced, class 0 did not
    proposal = Proposal(np.array([0.0, 1.0, 2.0]), 2)
    proposal.deficits = lambda leader: np.array([1e-300, 0.0, 0.0])  # type: ignore[method-assign]
    next_to = np.nextafter(-1.0, -np.inf)
    of_row, ranking = np.array([next_to, -1.0]), np.array([1, 0])
    for in_errors in (True, False):
        scores, order = with_screened_out(proposal, of_row, ranking, in_errors)
        assert order.tolist() == [2, 1, 0]
        assert scores[1:].tolist() == [next_to, -1.0]
        assert scores[0] == (next_to if in_errors else np.nextafter(next_to, -np.inf))


@each_screen
def test_probes_and_evaluations_are_counted(
    search: ScreenedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = method(search)
    # speculative rows are not counted
    monkeypatch.setattr(batches, "speculate", lambda images, free_rows: [])
    counted = {"errors": 0, "errors_at": 0, "gradients": 0}

    def counting(name: str) -> None:
        measure = getattr(built.scorer, name)

        def counts(x0: Tensor, asked: Any, draws: list[int], control: None) -> Any:
            counted[name] += len(draws)
            return measure(x0, asked, draws, control)

        monkeypatch.setattr(built.scorer, name, counts)

    for name in counted:
        counting(name)
    answers = list(built.classify(items(K)))
    race = sum(int(np.isfinite(table(answer)).sum()) for answer in answers)
    assert counted["errors"] == race
    # one screen has gradient probes alone, the other also probes without
    assert counted["gradients"] > 0
    assert (counted["errors_at"] > 0) == (search is SCREENS["one by one"])
    total = race + EVALUATIONS_PER_GRADIENT_PROBE * counted["gradients"] + counted["errors_at"]
    assert sum(answer.evaluations for answer in answers) == total


def test_prompts_of_a_class_are_probed_at_their_mean_and_raced_one_by_one() -> None:
    # the mean of a class's two prompts is its former prompt
    rng = torch.Generator().manual_seed(1)
    twisted: dict[str, Tensor] = {}
    for name, mean in MEAN_OF.items():
        off = 0.05 * torch.randn(mean.shape, generator=rng)
        twisted |= {name: mean + off, f"no {name}": mean - off}
    prompts = PromptSet.from_templates(NAMES, ["{}", "no {}"])
    model = GaussianDenoiser(twisted, 0.15)
    for search in SCREENS.values():
        built = DiffusionMethod(model, prompts, search, batch_size=B, encode_batch=4)
        answers = by_id(built.classify(items(K)))
        for one in items(K):
            answer = answers[one.image_id]
            assert answer.ranking[0] == one.label
            assert answer.evaluations <= most_evaluations(search, prompts)


def test_the_bundled_model_classifies_digits_as_well_as_without_a_screen() -> None:
    digits, spec = load_dataset("digits"), catalog.find("digits")
    prompts = PromptSet.from_templates(digits.class_names, spec.templates)
    model = loading.load("digits")
    chosen = list(digits.items[:16])

    def answers(search: Any) -> dict[str, ClassScores]:
        built = DiffusionMethod(model, prompts, search, allocation=model.card.allocation)
        return by_id(built.classify(chosen))

    whole = answers(Exhaustive(6))
    # one draw is too few to distinguish ten classes
    result = answers(Gradient(6, candidates=4, round_draws=2))
    same = [result[i].ranking[0] == whole[i].ranking[0] for i in whole]
    right = [result[one.image_id].ranking[0] == one.label for one in chosen]
    # one near-tie in sixteen may differ
    assert sum(same) >= 15 and sum(right) >= 15
    assert np.mean([answer.evaluations for answer in result.values()]) < 60 * 0.8


# ---- independent of batch composition -----------------------------------------------------------


@pytest.fixture(scope="module", params=["gaussian", "stable diffusion"])
def built_and_chosen(
    request: pytest.FixtureRequest, tiny_pipeline: Callable[[str], Path]
) -> Callable[[str], tuple[DiffusionMethod, list[Item]]]:
    if request.param == "gaussian":
        return lambda name: (method(SCREENS[name]), items(23))
    digits = load_dataset("digits")
    templates = [*catalog.find("digits").templates, "{}"]
    prompts = PromptSet.from_templates(digits.class_names, templates)
    model = loading.load(str(tiny_pipeline("v_prediction")))
    searches = {
        "gradient": Gradient(6, 0.5, candidates=3),
        "one by one": Gradient(6, 0.5, candidates=3, width=2.1),
    }

    def build(name: str) -> tuple[DiffusionMethod, list[Item]]:
        options: dict[str, Any] = {"batch_size": B, "encode_batch": 4, "keep_errors": True}
        return DiffusionMethod(model, prompts, searches[name], **options), list(digits.items[:11])

    return build


@pytest.mark.parametrize("name", SCREENS)
def test_results_do_not_depend_on_order_or_batch_composition(
    built_and_chosen: Callable[[str], tuple[DiffusionMethod, list[Item]]], name: str
) -> None:
    assert_independent_of_batches(*built_and_chosen(name))


@each_screen
def test_results_do_not_depend_on_the_encoder_batch(
    search: ScreenedSearch,
) -> None:
    expected = by_id(method(search).classify(items(13)))
    for rows in (1, 7):
        for image_id, answer in by_id(
            method(search, encode_batch=rows).classify(items(13))
        ).items():
            assert_same(answer, expected[image_id])
