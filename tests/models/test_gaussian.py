"""Gaussian denoiser: predictions, errors and posterior agree with their closed forms.

With p(x0 | k) = N(μ_k, s²), D = α²s² + σ² and d = x0 − μ_k, the noise prediction is

    ε̂ = E[ε | x_t] = σ·(x_t − α·μ_k)/D,      x_t = α·x0 + σ·ε

so the residual of class k is linear in the noise, elementwise normal:

    ε̂ − ε = A·d + B·ε,      A = ασ/D,   B = σ²/D − 1 = −α²s²/D
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf, logsumexp

from diffcls.diffusion.draws import DrawPlan, noise
from diffcls.diffusion.parameterization import PARAMETERIZATIONS
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring.scorer import Scorer
from diffcls.scoring.scoring import Scoring
from diffcls.support.errors import ModelError

SHAPE = (2, 3, 3)
NAMES = ("a", "b", "c")
RNG = np.random.default_rng(7)
MEANS = {name: torch.tensor(RNG.normal(size=SHAPE), dtype=torch.float32) for name in NAMES}
X0 = torch.tensor(RNG.normal(size=SHAPE), dtype=torch.float32)
Array = NDArray[np.float64]


def denoiser(prediction_type: str = "epsilon", scale: float = 0.5) -> GaussianDenoiser:
    return GaussianDenoiser(MEANS, scale, prediction_type=prediction_type)


def errors(model: GaussianDenoiser, plan: DrawPlan, scoring: Scoring | None = None) -> Array:
    """(K, N) errors of X0 on all draws."""
    scorer = Scorer(model, model.encode_prompts(NAMES), plan, scoring, batch_size=len(plan))
    x0, draws = X0.expand(len(plan), *SHAPE), list(range(len(plan)))
    rows = [torch.full((len(plan),), k) for k in range(len(NAMES))]
    return np.stack([scorer.errors(x0, row, draws).numpy() for row in rows]).astype(np.float64)


@dataclass
class Residual:
    """ε̂ − ε = A·d + B·ε at one index of the schedule."""

    A: float
    B: float
    d: Array  # (K, C·h·w)

    @classmethod
    def at(cls, index: int, scale: float = 0.5) -> Residual:
        schedule = NoiseSchedule.scaled_linear()
        alpha, sigma = schedule.alpha[index], schedule.sigma[index]
        D = alpha**2 * scale**2 + sigma**2
        d = np.stack([(X0 - MEANS[name]).double().numpy().ravel() for name in NAMES])
        return cls(alpha * sigma / D, sigma**2 / D - 1, d)


@pytest.mark.parametrize("index", [0, 120, 500, 999])
@pytest.mark.parametrize("prediction_type", PARAMETERIZATIONS)
def test_error_of_each_draw_is_the_residual_squared(prediction_type: str, index: int) -> None:
    plan = DrawPlan(np.full(6, index), seed=3)
    residual = Residual.at(index)
    eps = np.stack([noise(3, j, SHAPE).double().numpy().ravel() for j in range(6)])
    expected = ((residual.A * residual.d[:, None] + residual.B * eps) ** 2).mean(axis=2)
    assert errors(denoiser(prediction_type), plan) == pytest.approx(expected, rel=2e-4, abs=1e-7)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("index", [40, 300, 800])
def test_mean_error_is_its_closed_form(index: int, scale: float) -> None:
    draws, size = 3000, int(np.prod(SHAPE))
    result = errors(denoiser(scale=scale), DrawPlan(np.full(draws, index), seed=1)).mean(axis=1)
    r = Residual.at(index, scale)
    # E mean((A·d + B·ε)²) = A²·mean(d²) + B²;   its variance over draws from that of normal ε
    square = (r.d**2).mean(axis=1)
    expected = r.A**2 * square + r.B**2
    stderr = np.sqrt((4 * r.A**2 * r.B**2 * square + 2 * r.B**4) / size / draws)
    assert (np.abs(result - expected) <= 4 * stderr + 1e-5 * expected).all()
    assert (stderr < 0.05 * expected).all()


@pytest.mark.parametrize("index", [40, 300, 800])
def test_mean_absolute_error_is_its_closed_form(index: int) -> None:
    draws = 3000
    plan = DrawPlan(np.full(draws, index), seed=2)
    result = errors(denoiser(), plan, Scoring("l1"))
    r = Residual.at(index)
    # E|N(m, B²)| = |B|·√(2/π)·exp(−m²/2B²) + m·erf(m/(|B|·√2))
    m, B = r.A * r.d, abs(r.B)
    folded = B * np.sqrt(2 / np.pi) * np.exp(-(m**2) / (2 * B**2)) + m * erf(m / (B * 2**0.5))
    stderr = result.std(axis=1, ddof=1) / draws**0.5
    assert (np.abs(result.mean(axis=1) - folded.mean(axis=1)) <= 4 * stderr).all()


def test_all_prediction_types_have_the_same_errors() -> None:
    plan = DrawPlan(np.arange(5, 1000, 31))
    expected = errors(denoiser("epsilon"), plan)
    for prediction_type in PARAMETERIZATIONS:
        result = errors(denoiser(prediction_type), plan)
        assert result == pytest.approx(expected, rel=1e-3), prediction_type
        assert (result.mean(axis=1).argsort() == expected.mean(axis=1).argsort()).all()


@pytest.mark.parametrize("prediction_type", PARAMETERIZATIONS)
def test_prediction_is_the_conditional_expectation(prediction_type: str) -> None:
    # E[x0 | x_t] by Bayes' rule on a grid, one pixel of one class
    schedule = NoiseSchedule.scaled_linear()
    mean, scale, grid = 0.7, 0.5, np.linspace(-6, 7, 40001)
    model = GaussianDenoiser(
        {"a": torch.full((1, 1, 1), mean)}, scale, prediction_type=prediction_type
    )
    for index in (100, 500, 900):
        for value in (-1.0, 0.3, 2.0):
            alpha, sigma = schedule.alpha[index], schedule.sigma[index]
            log = -((grid - mean) ** 2) / (2 * scale**2) - (value - alpha * grid) ** 2 / (
                2 * sigma**2
            )
            weight = np.exp(log - log.max())
            x0 = (grid * weight).sum() / weight.sum()
            a, b = model.parameterization.coefficients(alpha, sigma)
            expected = a * x0 + b * (value - alpha * x0) / sigma
            out = model.predict(
                torch.full((1, 1, 1, 1), value), torch.tensor([index]), model.encode_prompts(["a"])
            )
            assert out.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_posterior_is_exact_under_the_variational_weights() -> None:
    """Summed over the schedule, errors weighted by the variational bound are log-likelihoods.

    The part of the bound that depends on the class is ½·Σ_t (SNR(t−1) − SNR(t))·‖x0 − x̂0‖², whose
    limit of many steps is ‖x0 − μ_k‖²/(2s²): Bayes' own exponent.
    """
    scale, size = 1.0, int(np.prod(SHAPE))
    schedule = NoiseSchedule.scaled_linear()
    length = len(schedule)
    # 8 noises at each timestep
    plan = DrawPlan(np.tile(np.arange(length), 8), seed=5)
    result = errors(denoiser(scale=scale), plan, Scoring(weighting="vlb")).mean(axis=1)
    # weights are scaled to mean 1: undo that, so that scores are in nats
    snr = (schedule.alpha / schedule.sigma) ** 2
    weight = 0.5 * (snr[:-1] / snr[1:] - 1)
    weight = np.concatenate([weight[:1], weight])
    scores = -result * weight.mean() * length * size
    posterior = np.exp(scores - logsumexp(scores))

    squares = np.array([((X0 - MEANS[name]) ** 2).sum().item() for name in NAMES])
    exact = -squares / (2 * scale**2)
    exact = np.exp(exact - logsumexp(exact))
    # standard error of this many draws: var Σ w·2AB·ε·(d_k − d_0)
    r = [Residual.at(index, scale) for index in range(length)]
    spread = sum((w * 2 * one.A * one.B) ** 2 for w, one in zip(weight, r, strict=True)) / 8
    stderr = np.sqrt(spread) * np.linalg.norm(r[0].d - r[0].d[0], axis=1)
    odds = np.log(posterior / posterior[0]) - np.log(exact / exact[0])
    assert stderr.max() < 0.25
    assert (np.abs(odds) <= 4 * stderr + 0.02 * np.abs(np.log(exact / exact[0]))).all()
    assert posterior == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize("prediction_type", PARAMETERIZATIONS)
def test_least_error_is_the_nearest_mean(prediction_type: str) -> None:
    distance = np.array([((X0 - MEANS[name]) ** 2).sum().item() for name in NAMES])
    for scale in (0.0, 0.5):
        result = errors(denoiser(prediction_type, scale), DrawPlan(np.arange(0, 1000, 25)))
        assert result.mean(axis=1).argsort().tolist() == distance.argsort().tolist()


def test_prompt_without_a_mean_is_refused() -> None:
    with pytest.raises(ModelError, match=r"prompt without a mean: \['d'\]; allowed: a, b, c"):
        denoiser().encode_prompts(["a", "d"])
