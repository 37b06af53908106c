"""Sampling in batches, against closed forms on the exact denoiser of a Gaussian."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcls.diffusion.parameterization import PARAMETERIZATIONS
from diffcls.generation.guidance import guided
from diffcls.generation.sample import sample
from diffcls.generation.samplers import path_of
from diffcls.generation.solvers import Estimates, dpm_solver
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.support.errors import UsageError

SHAPE = (3, 4, 4)
RNG = torch.Generator().manual_seed(1)
MEANS = {name: torch.rand(SHAPE, generator=RNG) - 0.5 for name in ("", "a", "b")}
SPREAD = 0.1


def kept(model: GaussianDenoiser) -> float:
    """Share of the spread that is left by the last step, which jumps to E[x0 | x_t] at index 0."""
    ratio = float(model.schedule.sigma[0] / model.schedule.alpha[0])
    # x_t/α has variance s² + σ²/α², of which the posterior mean keeps s²/(s² + σ²/α²)
    return SPREAD / (SPREAD**2 + ratio**2) ** 0.5


def denoiser(prediction_type: str = "v_prediction") -> GaussianDenoiser:
    return GaussianDenoiser(MEANS, SPREAD, prediction_type=prediction_type)


def drawn(model: Any, prompts: list[str], numbers: list[int], **options: Any) -> Tensor:
    return torch.cat([batch.images for batch in sample(model, prompts, numbers, **options)])


def solve(model: GaussianDenoiser, predict: Any, x_t: Tensor, steps: int) -> Tensor:
    path = path_of(model.schedule, steps)
    return list(dpm_solver(model.schedule, predict, x_t, path, torch.zeros))[-1]


@pytest.mark.parametrize("prediction_type", PARAMETERIZATIONS)
def test_samples_have_the_mean_and_spread_of_their_class(prediction_type: str) -> None:
    count = 400
    model = denoiser(prediction_type)
    images = drawn(model, ["a"] * count, list(range(count)), scale=1.0, steps=60)
    error = images.mean(dim=0) - MEANS["a"]
    # the mean's standard error is SPREAD/√n a pixel; the largest of 48 stays below four of them
    assert error.abs().max() < 4 * SPREAD / count**0.5
    assert float(images.std(dim=0).mean()) == pytest.approx(SPREAD * kept(model), rel=0.02)


def test_more_steps_come_nearer_to_the_exact_flow() -> None:
    """The probability flow of a Gaussian maps noise z to μ + s·z: known in closed form."""
    model = denoiser()
    noise = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(2))
    cond = model.encode_prompts(["a"] * 16)
    predict = guided(model, cond, model.encode_prompts([""]), 1.0)
    alpha, sigma = float(model.schedule.alpha[-1]), float(model.schedule.sigma[-1])
    x_t = alpha * MEANS["a"] + (alpha**2 * SPREAD**2 + sigma**2) ** 0.5 * noise
    exact = MEANS["a"] + SPREAD * kept(model) * noise
    errors = [
        float((solve(model, predict, x_t, steps) - exact).abs().mean()) for steps in (5, 20, 80)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.05 * SPREAD


def test_image_depends_on_its_seed_and_number_alone() -> None:
    model, prompts, numbers = denoiser(), ["a", "b", "a", "b", "a"], [0, 1, 2, 3, 4]
    whole = drawn(model, prompts, numbers, steps=4)
    again = drawn(model, prompts[::-1], numbers[::-1], steps=4, batch_size=2)
    assert torch.allclose(whole, again.flip(0), atol=1e-6)
    other = drawn(model, prompts, numbers, steps=4, seed=1)
    assert (whole - other).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_guidance_goes_beyond_the_prompt_away_from_the_empty_one() -> None:
    model = denoiser()
    x_t = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3))
    cond, empty = model.encode_prompts(["a", "b"]), model.encode_prompts([""])
    without = guided(model, empty.rows(torch.zeros(2).long()), empty, 1.0)(x_t, 500)[1]
    plain = guided(model, cond, empty, 1.0)(x_t, 500)[1]
    for scale in (0.0, 1.0, 2.5):
        noise = guided(model, cond, empty, scale)(x_t, 500)[1]
        assert torch.allclose(noise, without + scale * (plain - without), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_network_that_knows_the_image_ends_at_it(steps: int) -> None:
    model, x0 = denoiser(), torch.full((1, *SHAPE), 0.3)

    def predict(x_t: Tensor, index: int) -> Estimates:
        alpha, sigma = (float(v[index]) for v in (model.schedule.alpha, model.schedule.sigma))
        return Estimates(x0, (x_t - alpha * x0) / sigma)

    assert torch.equal(solve(model, predict, torch.randn(1, *SHAPE), steps), x0)


def test_first_step_is_that_of_ddim() -> None:
    model, seen = denoiser(), []

    def predict(x_t: Tensor, index: int) -> Estimates:
        seen.append((x_t, index))
        alpha, sigma = (float(v[index]) for v in (model.schedule.alpha, model.schedule.sigma))
        return Estimates(x0, (x_t - alpha * x0) / sigma)

    x0 = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(4))
    solve(model, predict, torch.randn(1, *SHAPE), 5)
    (x_t, t), (x_s, s) = seen[:2]
    alpha, sigma = model.schedule.alpha, model.schedule.sigma
    noise = (x_t - float(alpha[t]) * x0) / float(sigma[t])
    # Song et al. 2021, eq. 12 with no noise added: x_s = α_s·x0 + σ_s·ε
    assert torch.allclose(x_s, float(alpha[s]) * x0 + float(sigma[s]) * noise, atol=1e-5)


def test_no_steps_are_refused() -> None:
    with pytest.raises(UsageError, match="steps out of range"):
        drawn(denoiser(), ["a"], [0], steps=0)


def test_prompts_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = denoiser(), []
    encode = model.encode_prompts

    def spy(prompts: list[str]) -> Conditioning:
        asked.append(list(prompts))
        return encode(prompts)

    monkeypatch.setattr(model, "encode_prompts", spy)
    drawn(model, ["b", "a"] * 10, list(range(20)), steps=1, batch_size=4)
    assert asked == [["a", "b", ""]]
    assert np.isfinite(model.schedule.alpha).all()
