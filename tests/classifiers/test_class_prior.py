"""Class priors on an analytic model: known offsets, and products with a known posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.answers import assert_independent_of_batches, by_id
from PIL import Image
from scipy import special

from diffcls.classifiers.class_prior import (
    Fitted,
    PriorMethod,
    biased,
    combined,
    fit_bias,
    fit_combination,
)
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image, to_image, to_pixels
from diffcls.metrics.calibration import posterior
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.search.base import Search
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.racing import Racing
from diffcls.support.types import Float64

K, SIDE = 4, 4
SHAPE = (3, SIDE, SIDE)
NAMES = [f"class {k}" for k in range(K)]
NOISE = 0.3
"""Standard deviation of the images about their class."""


def mean_of(k: int, offset: float = 0.0) -> np.ndarray:
    """Classes differ by symmetry in the first channel; images have nothing in the last one."""
    mean = np.zeros(SHAPE)
    mean[0, k] = 0.3
    mean[2] = offset
    return mean


def picture(k: int, seed: int) -> Image.Image:
    pixels = mean_of(k)
    pixels[:2] += np.random.default_rng([k, seed]).normal(0, NOISE, pixels[:2].shape)
    return to_image(pixels)


def items(first: int, count: int) -> list[Item]:
    return [
        Item(f"test/{i}", i % K, lambda i=i: picture(i % K, i))  # type: ignore[misc]
        for i in range(first, first + count)
    ]


def method(
    search: Search | None = None, offsets: Any = (0.0,) * K, **options: Any
) -> DiffusionMethod:
    """Errors are (α/σ)²·‖x0 − μ_k‖²/d at every draw, so an offset of μ_k adds the same to all."""
    means = {name: torch.tensor(mean_of(k, offsets[k])).float() for k, name in enumerate(NAMES)}
    prompts = PromptSet.from_templates(NAMES, ["{}"])
    given = {"batch_size": 16, "encode_batch": 4, **options}
    return DiffusionMethod(GaussianDenoiser(means, 0.0), prompts, search or Exhaustive(3), **given)


def accuracy(classifier: Any, images: list[Item]) -> float:
    answers = by_id(classifier.classify(images))
    return float(np.mean([answers[i.image_id].ranking[0] == i.label for i in images]))


OFFSETS = (0.0, 0.12, 0.2, 0.25)


@pytest.mark.parametrize("search", [Exhaustive(3), Racing(3)], ids=repr)
def test_class_bias_from_unlabelled_images_restores_bayes_rule(search: Search) -> None:
    """A model whose classes are shifted by known amounts answers as one without the shift."""
    images = items(400, 120)
    right, wrong = method(search), method(search, OFFSETS)
    found = fit_bias(wrong, items(0, 200), strength=1e-3)["bias"]
    snr = right.denoiser.schedule.alpha / right.denoiser.schedule.sigma
    added = (snr[right.plan.indices] ** 2).mean() * np.square(OFFSETS) / 3
    # the bias in units of the error; what is left over is that of a sample of 200 images
    rest = found / right.likelihood_scale - (added - added.mean())
    of_sample = fit_bias(right, items(0, 200), strength=1e-3)["bias"] / right.likelihood_scale
    assert rest == pytest.approx(of_sample, abs=0.1 * np.ptp(added))
    corrected = PriorMethod(wrong, lambda: biased(wrong, found))
    bayes = accuracy(right, images)
    assert accuracy(wrong, images) < bayes - 0.1
    assert accuracy(corrected, images) > bayes - 0.03


def test_fit_of_the_class_bias_reads_no_label() -> None:
    given = items(0, 40)
    turned = [replace(item, label=(item.label + 1) % K) for item in given]
    one, other = (fit_bias(method(), images) for images in (given, turned))
    assert np.array_equal(one["bias"], other["bias"])
    assert one["evaluations"] == 40 * K * 3


def log_softmax(z: Float64) -> Float64:
    return np.asarray(special.log_softmax(z))


def opinion(open_image: Callable[[], Any]) -> Float64:
    """Another model of the images: log-probabilities from the mean of each row of pixels."""
    pixels = to_pixels(load_image(open_image()), SIDE).astype(np.float64)
    return log_softmax(8 * pixels[0].mean(axis=1))


def product(inner: DiffusionMethod, log_other: Any, own: float, other: float) -> PriorMethod:
    return PriorMethod(inner, lambda: combined(inner, log_other, own, other))


@pytest.mark.parametrize("search", [Exhaustive(3), Racing(6)], ids=repr)
def test_combination_with_a_uniform_model_is_the_diffusion_classifier(search: Search) -> None:
    images = items(0, 24)
    alone = by_id(method(search).classify(images))
    uniform = product(method(search), lambda _: np.full(K, -np.log(K)), 1.0, 1.0)
    for image_id, answer in by_id(uniform.classify(images)).items():
        assert answer.ranking.tolist() == alone[image_id].ranking.tolist()
        assert answer.evaluations == alone[image_id].evaluations
        assert posterior(answer.scores, uniform.posterior_scale) == pytest.approx(
            posterior(alone[image_id].scores, uniform.posterior_scale), abs=1e-4
        )


def test_combination_with_equal_errors_is_the_other_model() -> None:
    """Where all classes have one mean, the posterior is the other model's."""
    means = {name: torch.zeros(SHAPE) for name in NAMES}
    inner = DiffusionMethod(
        GaussianDenoiser(means, 0.3), PromptSet.from_templates(NAMES, ["{}"]), Exhaustive(3)
    )
    images = items(0, 12)
    both = product(inner, opinion, 0.7, 1.0)
    answers = by_id(both.classify(images))
    for item in images:
        found = posterior(answers[item.image_id].scores, both.posterior_scale)
        assert found == pytest.approx(np.exp(opinion(item.open)), abs=1e-3)


def test_posterior_is_the_product_in_closed_form() -> None:
    inner, own, other = method(Exhaustive(3)), 0.8, 0.6
    schedule = inner.denoiser.schedule
    snr = ((schedule.alpha / schedule.sigma)[inner.plan.indices] ** 2).mean()
    both = product(inner, opinion, own, other)
    for image_id, answer in by_id(both.classify(items(0, 12))).items():
        (item,) = (i for i in items(0, 12) if i.image_id == image_id)
        x0 = to_pixels(load_image(item.open()), SIDE).astype(np.float64)
        distance = np.array([((x0 - mean_of(k)) ** 2).mean() for k in range(K)])
        logits = -own * inner.likelihood_scale * snr * distance + other * opinion(item.open)
        expected = np.exp(log_softmax(logits))
        assert posterior(answer.scores, both.posterior_scale) == pytest.approx(expected, abs=1e-3)


def test_prior_that_is_certain_needs_the_first_draws_alone() -> None:
    images, start = items(0, 12), 2
    alone = by_id(method(Racing(20, start=start)).classify(images))

    def certain(open_image: Callable[[], Any]) -> Float64:
        return log_softmax(1e4 * np.eye(K)[0])

    sure = product(method(Racing(20, start=start)), certain, 1.0, 1.0)
    for image_id, answer in by_id(sure.classify(images)).items():
        assert answer.ranking[0] == 0
        assert answer.evaluations <= alone[image_id].evaluations
        assert answer.evaluations == K * start


def test_exponents_are_fitted_on_the_scores_of_both_models() -> None:
    inner = method(Racing(6))
    found = fit_combination(inner, lambda item: opinion(item.open), items(0, 120))
    assert 0 < found["own"] and 0 < found["other"] and found["evaluations"] >= 120 * K * 2
    both = product(method(Racing(6)), opinion, float(found["own"]), float(found["other"]))
    images = items(400, 120)
    assert accuracy(both, images) >= accuracy(method(Racing(6)), images) - 0.02


def test_answers_do_not_depend_on_the_batch_and_the_prior_ends_with_the_iterator() -> None:
    inner = method(Racing(8))
    assert_independent_of_batches(product(inner, opinion, 1.0, 1.0), items(0, 18))
    plain = by_id(inner.classify(items(0, 4)))
    expected = by_id(method(Racing(8)).classify(items(0, 4)))
    for image_id, answer in plain.items():
        assert np.array_equal(answer.scores, expected[image_id].scores)


def test_prior_is_fitted_once() -> None:
    inner, calls = method(), []

    def fit() -> Fitted:
        calls.append(1)
        return biased(inner, np.zeros(K))

    classifier = PriorMethod(inner, fit)
    for _ in range(2):
        list(classifier.classify(items(0, 2)))
    assert classifier.posterior_scale == inner.likelihood_scale and calls == [1]
