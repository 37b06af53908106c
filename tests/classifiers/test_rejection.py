"""Rejection: "none of these" on an analytic model, whose posterior is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers.answers import assert_independent_of_batches, by_id
from helpers.tiny_families import saved
from PIL import Image

from diffcls.classifiers.background import check_background
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.rejection import RejectingMethod, calibrate
from diffcls.classifiers.search_options import most_evaluations
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image, to_image, to_pixels
from diffcls.metrics.calibration import posterior
from diffcls.metrics.rejection import Calibration
from diffcls.models import loading
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.search.base import Search
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.halving import Halving
from diffcls.search.paper import Paper
from diffcls.search.racing import Racing
from diffcls.support.errors import UsageError

K, SIDE, DRAWS = 5, 4, 12
NAMES = [f"class {k}" for k in range(K)]
SHAPE = (3, SIDE, SIDE)
RNG = np.random.default_rng(5)
MEANS = {name: RNG.uniform(-0.6, 0.6, SHAPE) for name in [*NAMES, "other"]}
MEANS[""] = np.zeros(SHAPE)
TENSORS = {name: torch.tensor(mean, dtype=torch.float32) for name, mean in MEANS.items()}
SEARCHES = [
    Racing(DRAWS),
    Exhaustive(DRAWS),
    Halving(DRAWS, start=2),
    Paper((3, DRAWS), (2, 1)),
]


def picture(name: str, seed: int) -> Image.Image:
    return to_image(MEANS[name] + np.random.default_rng(seed).normal(0, 0.15, SHAPE))


def items(count: int) -> list[Item]:
    """Images of the candidates, and of ``other``, whose right answer is none of these."""
    names = [*NAMES, "other"]
    return [
        Item(f"test/{i}", i % (K + 1), lambda i=i: picture(names[i % (K + 1)], i))  # type: ignore[misc]
        for i in range(count)
    ]


def method(search: Search, names: Sequence[str] = NAMES, **options: Any) -> DiffusionMethod:
    given: dict[str, Any] = {"background": "", "batch_size": 16, "encode_batch": 4, **options}
    prompts = PromptSet.from_templates(names, ["{}"])
    return DiffusionMethod(GaussianDenoiser(TENSORS, 0.2), prompts, search, **given)


def test_posterior_of_none_is_that_in_closed_form() -> None:
    """Without spread within a class, the error is e_k = (α/σ)²·‖x0 − μ_k‖²/d at every draw."""
    prompts = PromptSet.from_templates(NAMES, ["{}"])
    exact = GaussianDenoiser(TENSORS, 0.0)
    inner = DiffusionMethod(exact, prompts, Exhaustive(DRAWS), background="")
    scale, offset = 0.9, 0.4
    answers = by_id(RejectingMethod(inner, lambda: Calibration(scale, offset)).classify(items(12)))
    snr = (exact.schedule.alpha / exact.schedule.sigma)[inner.plan.indices] ** 2
    for item in items(12):
        x0 = to_pixels(load_image(item.open()), SIDE).astype(np.float64)
        distance = np.array([((x0 - MEANS[name]) ** 2).mean() for name in [*NAMES, ""]])
        logits = -scale * snr.mean() * distance + np.array([0.0] * K + [offset])
        expected = np.exp(logits) / np.exp(logits).sum()
        found = posterior(answers[item.image_id].scores, scale)
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: type(s).__name__)
def test_race_of_the_candidates_is_the_same_with_the_background(search: Search) -> None:
    alone = by_id(method(search, background=None).classify(items(12)))
    beside = by_id(method(search).classify(items(12)))
    calibrated = RejectingMethod(method(search), lambda: Calibration(1.0, 0.0))
    for image_id, answer in by_id(calibrated.classify(items(12))).items():
        expected = alone[image_id].ranking.tolist()
        assert beside[image_id].ranking.tolist() == expected
        assert [k for k in answer.ranking.tolist() if k < K] == expected
        assert answer.ranking.tolist() == np.argsort(-answer.scores, kind="stable").tolist()


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: type(s).__name__)
def test_decision_has_all_draws_of_both_its_rows(search: Search) -> None:
    full = by_id(method(Exhaustive(DRAWS), allocation="even").classify(items(12)))
    most = most_evaluations(search, method(search).prompts, background=True)
    for image_id, answer in by_id(method(search).classify(items(12))).items():
        assert answer.background is not None
        assert answer.evaluations <= most
        if isinstance(search, Paper):  # it has draws of its own
            continue
        best = int(answer.ranking[0])
        gap = answer.scores[best] - answer.background
        expected = full[image_id].scores[best] - float(full[image_id].background or 0)
        assert gap == pytest.approx(expected, abs=1e-7)


def test_evaluations_count_the_background() -> None:
    answers = method(Exhaustive(DRAWS)).classify(items(3))
    assert {answer.evaluations for answer in answers} == {(K + 1) * DRAWS}


def test_answers_do_not_depend_on_the_batch() -> None:
    calibrated = RejectingMethod(method(Racing(DRAWS)), lambda: Calibration(1.0, 0.0))
    assert_independent_of_batches(calibrated, items(18))


def test_answers_do_not_depend_on_the_order_of_the_labels() -> None:
    order = [3, 0, 4, 1, 2]
    one = by_id(method(Racing(DRAWS)).classify(items(12)))
    other = by_id(method(Racing(DRAWS), [NAMES[k] for k in order]).classify(items(12)))
    for image_id, answer in one.items():
        assert other[image_id].scores == pytest.approx(answer.scores[order], abs=1e-7)
        assert other[image_id].background == answer.background


def test_calibrated_classifier_rejects_images_of_other_classes() -> None:
    inner = method(Racing(DRAWS))
    fitted = calibrate(inner, items(120)[60:])
    backwards = calibrate(method(Racing(DRAWS)), items(120)[60:][::-1])
    assert backwards.scale == pytest.approx(fitted.scale, rel=1e-9)
    assert backwards.offset == pytest.approx(fitted.offset, rel=1e-9)
    answers = by_id(RejectingMethod(inner, lambda: fitted).classify(items(60)))
    right = [answers[item.image_id].ranking[0] == item.label for item in items(60)]
    assert np.mean(right) > 0.9
    none = [answers[item.image_id].ranking[0] == K for item in items(60) if item.label == K]
    assert np.mean(none) > 0.8


def test_several_prompts_of_a_class_count_with_all_their_draws() -> None:
    prompts = PromptSet(("a", "b"), tuple(NAMES[:3]), (0, 0, 1))
    search = Racing(DRAWS)
    inner = DiffusionMethod(GaussianDenoiser(TENSORS, 0.2), prompts, search, background="")
    images = [Item(f"test/{i}", 0, lambda i=i: picture(NAMES[i], i)) for i in range(3)]  # type: ignore[misc]
    for answer in inner.classify(images):
        rows = 2 if answer.ranking[0] == 0 else 1
        assert answer.evaluations >= (rows + 1) * DRAWS
        assert answer.evaluations <= most_evaluations(search, prompts, background=True)


@pytest.mark.parametrize(
    ("background", "options", "message"),
    [
        ("class 2", {}, "--background-prompt is a candidate's prompt, too.*class 2"),
        ("unheard of", {}, "the model has no such prompt"),
        ("", {"vote": "rank"}, "--reject compares log-likelihoods"),
    ],
)
def test_background_that_cannot_be_judged_is_refused(
    background: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        method(Racing(DRAWS), background=background, **options)


def test_model_without_an_empty_prompt_is_refused_and_a_null_class_serves(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    without = GaussianDenoiser({name: TENSORS[name] for name in NAMES}, 0.2)
    prompts = PromptSet.from_templates(NAMES, ["{}"])
    with pytest.raises(UsageError, match="--reject: the model has no empty prompt"):
        check_background(without, prompts, "", "mean")
    dit = loading.load(str(saved("dit", tmp_path_factory.getbasetemp())))
    ids = PromptSet(("a", "b"), ("0", "1"), (0, 1))
    check_background(dit, ids, "", "mean")
    with pytest.raises(UsageError, match="--background-prompt needs a text-conditional model"):
        check_background(dit, ids, "a photo", "mean")
    answers = DiffusionMethod(dit, ids, Racing(4), background="", batch_size=4).classify(
        [Item("test/0", 0, lambda: Image.new("RGB", (dit.image_size, dit.image_size)))]
    )
    assert [answer.background is not None for answer in answers] == [True]
