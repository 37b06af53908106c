"""Training losses against their definitions: by residual, by level, by the terms of the bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcls.diffusion import bound
from diffcls.diffusion.parameterization import PARAMETERIZATIONS, Parameterization
from diffcls.diffusion.process import chain, learned_variance, to_tensor
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.support.errors import UsageError
from diffcls.support.types import Float64
from diffcls.training.losses import (
    MIN_SNR_GAMMA,
    WEIGHTS,
    both_variances,
    check_weighting,
    noised,
    objective,
    variance_term,
)
from diffcls.training.noise_levels import LevelBatch

SHAPE = (2, 3, 3)
SCHEDULES = {
    "linear": NoiseSchedule.linear(),
    "cosine": NoiseSchedule.squared_cosine(),
    "flow": NoiseSchedule.rectified_flow(),
}
ROWS = pytest.mark.parametrize("row", PARAMETERIZATIONS.values(), ids=lambda row: row.name)
ALL_SCHEDULES = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
CHAINS = pytest.mark.parametrize("name", ["linear", "cosine"])


def levels_at(schedule: NoiseSchedule, index: list[int], dtype: torch.dtype) -> LevelBatch:
    at = np.array(index)
    alpha, sigma, timestep = (
        torch.tensor(v[at], dtype=dtype)
        for v in (schedule.alpha, schedule.sigma, schedule.timesteps)
    )
    return LevelBatch(alpha, sigma, timestep, torch.tensor(index))


def drawn(
    schedule: NoiseSchedule, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, LevelBatch]:
    """Some output, x0 and noise, at levels over the whole schedule, both ends included."""
    index = [0, 1, 2, 10, 250, 500, 750, 990, 999]
    g = torch.Generator().manual_seed(0)
    out, x0, noise = torch.randn(3, len(index), *SHAPE, generator=g, dtype=dtype)
    return out, x0.clamp(-1, 1), noise, levels_at(schedule, index, dtype)


def mean_square(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(dim=1)


def gains(levels: LevelBatch, like: Tensor) -> tuple[Tensor, Tensor]:
    return to_tensor(levels.alpha, like), to_tensor(levels.sigma, like)


# ---- the residual and its weights ----------------------------------------------------------------


@ALL_SCHEDULES
def test_each_image_is_noised_at_its_own_level(schedule: NoiseSchedule) -> None:
    _, x0, noise, levels = drawn(schedule)
    x_t = noised(x0, noise, levels)
    for i in range(len(x0)):
        expected = float(levels.alpha[i]) * x0[i] + float(levels.sigma[i]) * noise[i]
        torch.testing.assert_close(x_t[i], expected)


@ROWS
@ALL_SCHEDULES
def test_epsilon_weighting_is_the_mean_square_of_the_noises_residual(
    row: Parameterization, schedule: NoiseSchedule
) -> None:
    out, x0, noise, levels = drawn(schedule)
    estimate = row.to_noise(out, noised(x0, noise, levels), *gains(levels, x0))
    found = objective(out, x0, noise, levels, row, "epsilon")
    torch.testing.assert_close(found, mean_square(estimate - noise), rtol=1e-9, atol=0)


@ROWS
@ALL_SCHEDULES
def test_native_weighting_is_the_mean_square_of_the_outputs_own_residual(
    row: Parameterization, schedule: NoiseSchedule
) -> None:
    out, x0, noise, levels = drawn(schedule)
    native = objective(out, x0, noise, levels, row, "native")
    target = row.target(x0, noise, *gains(levels, x0))
    torch.testing.assert_close(native, mean_square(out - target))
    scale = row.noise_scale(levels.alpha, levels.sigma)
    torch.testing.assert_close(objective(out, x0, noise, levels, row, "epsilon"), native * scale**2)


@ROWS
@ALL_SCHEDULES
def test_min_snr_weighting_is_the_error_of_x0_times_the_capped_snr(
    row: Parameterization, schedule: NoiseSchedule
) -> None:
    # Hang et al. 2023, section 3.4: w_t = min(SNR(t), γ) on ‖x0 − x̂0‖², γ = 5
    out, x0, noise, levels = drawn(schedule)
    estimate = row.to_x0(out, noised(x0, noise, levels), *gains(levels, x0))
    snr = (levels.alpha / levels.sigma) ** 2
    assert (
        MIN_SNR_GAMMA == 5 and (snr > 5).any() and (snr < 5).any()
    )  # both sides of the cap are seen
    expected = snr.clamp(max=5.0) * mean_square(estimate - x0)
    found = objective(out, x0, noise, levels, row, "min-snr")
    # the estimate of x0 is a difference of numbers that are much larger where signal is faint
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@ROWS
@pytest.mark.parametrize("weighting", WEIGHTS)
def test_loss_is_zero_for_the_perfect_output_alone(row: Parameterization, weighting: str) -> None:
    out, x0, noise, levels = drawn(SCHEDULES["linear"])
    perfect = row.target(x0, noise, *gains(levels, x0))
    assert not objective(perfect, x0, noise, levels, row, weighting).any()
    assert (objective(out, x0, noise, levels, row, weighting) > 0).all()


def test_an_unknown_weighting_is_refused() -> None:
    for name in WEIGHTS:
        check_weighting(name)
    with pytest.raises(UsageError, match="did you mean 'min-snr'"):
        check_weighting("minsnr")


# ---- the learned variance ------------------------------------------------------------------------


def terms(
    name: str, row: Parameterization, dtype: torch.dtype, wrong: float = 1.0, mixed: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, LevelBatch]:
    """The term of each level, with the output and the mixture that it was made of.

    Args:
        name: of the schedule.
        row: what the network predicts.
        dtype: of everything.
        wrong: how far the output is from what it should be.
        mixed: spread of the mixture about its middle.
    """
    schedule = SCHEDULES[name]
    out, x0, noise, levels = drawn(schedule, dtype)
    steps = chain(schedule)
    out = row.target(x0, noise, *gains(levels, x0)) + wrong * out
    g = torch.Generator().manual_seed(1)
    mixture = 0.5 + mixed * (torch.rand(out.shape, generator=g, dtype=dtype) - 0.5)
    out.requires_grad_()
    mixture.requires_grad_()
    x_t = noised(x0, noise, levels)
    found = variance_term(out, mixture, x0, x_t, levels, steps, row, both_variances(steps))
    return found, out, mixture, levels


@ROWS
@CHAINS
def test_the_variances_term_is_the_bounds_own(name: str, row: Parameterization) -> None:
    schedule = SCHEDULES[name]
    found, out, mixture, levels = terms(name, row, torch.float64)
    _, x0, noise, _ = drawn(schedule)
    steps = chain(schedule)
    x_t = noised(x0, noise, levels)
    guess = row.to_x0(out, x_t, *gains(levels, x0))
    assert levels.index is not None
    for i, level in enumerate(levels.index.tolist()):
        one = slice(i, i + 1)
        # β̃ of the first step is 0, and the second's stands for it (Nichol and Dhariwal 2021)
        small, large = float(steps.posterior_variance[max(1, level)]), float(steps.variance[level])
        variance = learned_variance(mixture[one], small, large)
        if level == 0:
            nats = bound.discretised_decoder()(x0[one], guess[one], variance).sum()
        else:
            (nats,) = bound.step_term(
                steps.rows([level]).tensors(x0), x0[one], x_t[one], guess[one], variance
            )
        expected = bound.bits_per_dim(nats, math.prod(SHAPE))
        torch.testing.assert_close(found[i], expected, rtol=1e-9, atol=0)


@ROWS
@CHAINS
@pytest.mark.parametrize("wrong", [0.0, 1.0, 30.0])
def test_the_variances_term_moves_the_mixture_at_every_level_and_never_the_mean(
    name: str, row: Parameterization, wrong: float
) -> None:
    # in single precision, as networks are trained, and with mixtures beyond [0, 1], as they give
    found, out, mixture, _ = terms(name, row, torch.float32, wrong, mixed=4.0)
    assert found.isfinite().all()
    found.sum().backward()
    assert out.grad is None
    assert mixture.grad is not None
    assert mixture.grad.isfinite().all()
    assert (mixture.grad.flatten(1).abs().amax(dim=1) > 0).all()


def test_the_first_levels_gradient_is_the_decoders() -> None:
    row = PARAMETERIZATIONS["epsilon"]
    _, x0, noise, _ = drawn(SCHEDULES["linear"])
    found, out, mixture, levels = terms("linear", row, torch.float64, wrong=0.01)
    (gradient,) = torch.autograd.grad(found[0], mixture)
    step = 1e-5
    steps = chain(SCHEDULES["linear"])
    guess = row.to_x0(out, noised(x0, noise, levels), *gains(levels, x0))[0].detach()
    small, large = float(steps.posterior_variance[1]), float(steps.variance[0])

    def bits(mixture: Tensor) -> Tensor:
        variance = learned_variance(mixture, small, large)
        return bound.bits_per_dim(
            bound.discretised_decoder()(x0[0], guess, variance), math.prod(SHAPE)
        )

    held = mixture[0].detach()
    expected = (bits(held + step) - bits(held - step)) / (2 * step)
    torch.testing.assert_close(gradient[0], expected, rtol=1e-5, atol=1e-9)
    assert not gradient[1:].any()


S = 0.5


def gradient_at(schedule: NoiseSchedule, index: int, variance: float) -> Tensor:
    """Of the term, by the mixture of each dimension, with the exact mean where x0 ~ N(0, S²)."""
    row, steps = PARAMETERIZATIONS["epsilon"], chain(schedule)
    variances: tuple[Float64, Float64] = both_variances(steps)
    g = torch.Generator().manual_seed(index)
    x0, noise = torch.randn(2, 16, 1, 128, 128, generator=g, dtype=torch.float64)
    x0 *= S
    levels = levels_at(schedule, [index] * len(x0), torch.float64)
    x_t = noised(x0, noise, levels)
    alpha, sigma = gains(levels, x0)
    out = sigma * x_t / (alpha**2 * S**2 + sigma**2)  # E[ε | x_t]
    small, large = (float(v[index]) for v in variances)
    mixture = math.log(variance / small) / math.log(large / small)
    place = torch.full_like(x0, mixture, requires_grad=True)
    found = variance_term(out, place, x0, x_t, levels, steps, row, variances)
    (gradient,) = torch.autograd.grad(found.sum(), place)
    return gradient.flatten()


@pytest.mark.parametrize("index", [1, 5, 20, 49])
def test_with_the_exact_mean_the_gradient_vanishes_at_the_exact_variance(index: int) -> None:
    schedule = NoiseSchedule.linear(50, 0.002, 0.4)
    steps = chain(schedule)
    left = S**2 * schedule.sigma**2 / (schedule.alpha**2 * S**2 + schedule.sigma**2)
    exact = steps.posterior_variance + steps.of_x0**2 * left  # of x_s given x_t
    small, large = (float(v[index]) for v in both_variances(steps))
    assert small < exact[index] < large

    def mean_in_standard_errors(variance: float) -> float:
        gradient = gradient_at(schedule, index, variance)
        return float(gradient.mean() / (gradient.std() / math.sqrt(len(gradient))))

    assert abs(mean_in_standard_errors(exact[index])) < 4
    # on either side it points there
    assert mean_in_standard_errors(small) < -10
    assert mean_in_standard_errors(large) > 10


def test_continuous_levels_have_no_term_of_a_learned_variance() -> None:
    schedule = SCHEDULES["linear"]
    out, x0, noise, levels = drawn(schedule)
    anywhere = LevelBatch(levels.alpha, levels.sigma, levels.timestep)
    steps, row = chain(schedule), PARAMETERIZATIONS["epsilon"]
    with pytest.raises(ValueError, match="discrete levels of a schedule"):
        variance_term(out, out, x0, noise, anywhere, steps, row, both_variances(steps))


def test_both_variances_are_those_of_the_chain() -> None:
    schedule = SCHEDULES["linear"]
    small, large = both_variances(chain(schedule))
    betas = np.linspace(1e-4, 0.02, 1000)
    cumulative = np.cumprod(1 - betas)
    # β̃_t = β_t·(1 − ᾱ_{t−1})/(1 − ᾱ_t), the first as the second (Ho et al. 2020, eq. 7)
    posterior = betas[1:] * (1 - cumulative[:-1]) / (1 - cumulative[1:])
    np.testing.assert_allclose(large, betas, rtol=1e-9)
    np.testing.assert_allclose(small, np.append(posterior[0], posterior), rtol=1e-9)
