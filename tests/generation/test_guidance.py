"""Guidance by gradients, against the exact posterior of Gaussians."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffcls.diffusion.draws import noise as drawn_noise
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.generation.guidance import (
    gradient,
    gradient_guided,
    guided,
    of_classifier,
    of_denoiser,
    of_estimate,
    of_similarity,
)
from diffcls.generation.solvers import Estimates
from diffcls.models.gaussian import GaussianDenoiser

SHAPE = (1, 3, 3)
SCHEDULE = NoiseSchedule.scaled_linear()
SPREAD = 0.4
G = torch.Generator().manual_seed(0)
MEANS = {name: torch.randn(SHAPE, generator=G) for name in "ab"}


def class_model() -> GaussianDenoiser:
    return GaussianDenoiser(MEANS, SPREAD, SCHEDULE)


def spread_at(index: int) -> float:
    alpha, sigma = float(SCHEDULE.alpha[index]), float(SCHEDULE.sigma[index])
    return alpha**2 * SPREAD**2 + sigma**2


def exact_logits(x_t: Tensor, index: Tensor) -> Tensor:
    """log p(x_t | c) up to a constant: the Bayes classifier of noisy images."""
    level = int(index[0])
    centres = float(SCHEDULE.alpha[level]) * torch.stack(list(MEANS.values()))
    gap = (x_t[:, None] - centres).square().flatten(2).sum(dim=2)
    return -gap / (2 * spread_at(level))


def mixture(x_t: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """The exact unconditional estimates of an even mixture of the classes."""
    weight = F.softmax(exact_logits(x_t, torch.full((len(x_t),), index)), dim=1)
    model, parts = class_model(), []
    for name in MEANS:
        cond = model.encode_prompts([name] * len(x_t))
        parts.append(guided(model, cond, cond, 1.0)(x_t, index))
    x0, noise = (
        sum(weight[:, k].reshape(-1, 1, 1, 1) * parts[k][i] for k in range(len(parts)))
        for i in (0, 1)
    )
    return Estimates(x0, noise)


@pytest.mark.parametrize("index", [20, 300, 800])
def test_the_exact_classifier_turns_the_mixture_into_the_class(index: int) -> None:
    # score(x_t | c) = score(x_t) + ∇ log p(c | x_t), so with w = 1 the guidance is Bayes' rule
    x_t = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(index))
    classes = torch.tensor([0, 1, 0, 1, 1])
    predict = gradient_guided(mixture, of_classifier(exact_logits, classes), 1.0, SCHEDULE)
    model = class_model()
    cond = model.encode_prompts(["ab"[k] for k in classes.tolist()])
    for mine, exact in zip(
        predict(x_t, index)[:2], guided(model, cond, cond, 1.0)(x_t, index)[:2], strict=True
    ):
        torch.testing.assert_close(mine, exact, atol=1e-4, rtol=1e-3)


def test_no_weight_changes_nothing_and_a_level_without_signal_is_left_alone() -> None:
    x_t = torch.randn(3, *SHAPE, generator=G)
    guide = of_classifier(exact_logits, torch.tensor([0, 1, 0]))
    plain = mixture(x_t, 500)
    found = gradient_guided(mixture, guide, 0.0, SCHEDULE)(x_t, 500)
    for mine, other in zip(found[:2], plain[:2], strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)
    ends = NoiseSchedule.scaled_linear(rescale_zero_snr=True)

    def never(x_t: Tensor, index: int) -> Tensor:
        raise AssertionError("there is nothing to score")

    calls = gradient_guided(lambda x, i: Estimates(x, x), never, 1.0, ends)(x_t, 999)
    assert torch.equal(calls[0], x_t)


def test_the_gradient_goes_through_the_estimate() -> None:
    # E[x0 | x_t] = μ + α·s²·(x_t − α·μ)/(α²s² + σ²): its slope in x_t is α·s²/(α²s² + σ²)
    model, index = class_model(), 400
    cond = model.encode_prompts(["a"] * 2)
    weights = torch.randn(2, *SHAPE, generator=G)
    log_p = of_estimate(
        guided(model, cond, cond, 1.0), lambda x0: (weights * x0).flatten(1).sum(dim=1)
    )
    slope = float(SCHEDULE.alpha[index]) * SPREAD**2 / spread_at(index)
    found = gradient(log_p, torch.randn(2, *SHAPE, generator=G), index)
    torch.testing.assert_close(found, slope * weights, atol=1e-5, rtol=1e-4)


def test_gradients_of_images_in_a_batch_are_apart_and_work_under_inference() -> None:
    guide = of_classifier(exact_logits, torch.tensor([0, 1]))
    x_t = torch.randn(2, *SHAPE, generator=G)
    with torch.inference_mode():
        both = gradient(guide, x_t, 300)
    alone = gradient(of_classifier(exact_logits, torch.tensor([1])), x_t[1:], 300)
    torch.testing.assert_close(both[1:], alone)


def test_similarity_grows_along_its_gradient() -> None:
    texts = F.normalize(torch.randn(2, 9, generator=G), dim=1)
    score = of_similarity(
        lambda images: F.normalize(images.flatten(1), dim=1), lambda x0: x0, texts, 10.0
    )
    x0 = torch.randn(2, *SHAPE, generator=G)
    step = gradient(lambda x, _: score(x), x0, 0)
    assert (score(x0 + 0.05 * step) > score(x0)).all()
    assert torch.allclose(score(texts.reshape(2, *SHAPE)), torch.tensor(10.0))


def test_the_denoisers_own_posterior_names_the_class() -> None:
    model = class_model()
    cond = model.encode_prompts(list(MEANS))
    noises = torch.stack([drawn_noise(0, j, SHAPE) for j in range(8)])
    levels = [100, 200, 300, 400, 500, 600, 700, 800]
    x0 = torch.stack(list(MEANS.values()))
    own = of_denoiser(model, cond, torch.tensor([0, 1]), levels, noises)(x0)
    other = of_denoiser(model, cond, torch.tensor([1, 0]), levels, noises)(x0)
    assert (own > other).all()
    torch.testing.assert_close(own.exp() + other.exp(), torch.ones(2))
    # and its gradient moves an image from one class towards the other
    lead = gradient(
        lambda x, _: of_denoiser(model, cond, torch.tensor([1]), levels, noises)(x), x0[:1], 0
    )
    assert float((lead * (x0[1:] - x0[:1])).sum()) > 0


def test_a_flatter_posterior_guides_less() -> None:
    model = class_model()
    cond = model.encode_prompts(list(MEANS))
    noises = drawn_noise(0, 0, SHAPE)[None]
    x0 = 0.5 * (MEANS["a"] + MEANS["b"])[None]
    sharp, flat = (
        gradient(
            lambda x, _, t=t: of_denoiser(model, cond, torch.tensor([0]), [500], noises, t)(x),
            x0,
            0,
        ).norm()
        for t in (1.0, 10.0)
    )
    assert flat < 0.5 * sharp
