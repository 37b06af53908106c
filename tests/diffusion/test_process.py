from __future__ import annotations

import math

import diffusers
import numpy as np
import pytest
import torch

from diffcls.diffusion.process import (
    betas,
    chain,
    langevin,
    learned_variance,
    reverse_variances,
    to_score,
    to_tensor,
)
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.support.errors import UsageError

SCHEDULES = {
    "linear": NoiseSchedule.linear(),
    "scaled linear": NoiseSchedule.scaled_linear(),
    "cosine": NoiseSchedule.squared_cosine(50),
    "flow": NoiseSchedule.rectified_flow(20),
}
WHOLE = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def test_the_chains_betas_are_those_that_made_the_schedule():
    given = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(betas(NoiseSchedule.from_betas(given)), given, rtol=1e-9)


@WHOLE
def test_the_chain_step_by_step_has_the_closed_form_s_mean_and_variance(schedule):
    # x_t of a constant image: its mean and variance after each step, by recursion on eq. 2
    steps = chain(schedule)
    mean, variance = 1.0, 0.0
    for t in range(len(schedule)):
        one = steps.rows(t)
        mean = one.forward(mean, 0.0)
        variance = one.gain**2 * variance + one.variance
        assert mean == pytest.approx(schedule.alpha[t], rel=1e-9)
        assert variance == pytest.approx(schedule.sigma[t] ** 2, rel=1e-9)


def test_a_chain_of_drawn_noises_has_the_distribution_of_the_closed_form():
    schedule = NoiseSchedule.squared_cosine(8)
    rng = np.random.default_rng(0)
    x = np.full(200_000, 0.7)
    steps = chain(schedule)
    for t in range(len(schedule) - 1):
        x = steps.rows(t).forward(x, rng.standard_normal(x.shape))
    alpha, sigma = schedule.alpha[-2], schedule.sigma[-2]
    error = sigma / math.sqrt(len(x))
    assert x.mean() == pytest.approx(0.7 * alpha, abs=4 * error)
    assert x.std() == pytest.approx(sigma, abs=4 * error / math.sqrt(2))


@WHOLE
def test_the_posterior_is_bayes_rule(schedule):
    # q(x_s | x_t, x0) ∝ N(x_t; α_{t|s} x_s, σ²_{t|s}) · N(x_s; α_s x0, σ_s²): precisions add
    steps, x0, x_t = chain(schedule), 0.3, -0.8
    for t in (1, len(schedule) // 2, len(schedule) - 1):
        one = steps.rows(t)
        precision = one.gain**2 / one.variance + 1 / one.sigma_s**2
        mean = (one.gain * x_t / one.variance + one.alpha_s * x0 / one.sigma_s**2) / precision
        assert one.posterior_variance == pytest.approx(1 / precision, rel=1e-8)
        assert one.posterior_mean(x0, x_t) == pytest.approx(mean, rel=1e-8)


@pytest.mark.parametrize(("kind", "theirs"), [("small", "fixed_small"), ("large", "fixed_large")])
def test_reverse_steps_agree_with_the_librarys_scheduler(kind, theirs):
    scheduler = diffusers.DDPMScheduler(variance_type=theirs, clip_sample=False)
    schedule = NoiseSchedule.from_diffusers(scheduler.config)
    steps = chain(schedule)
    variance = reverse_variances(steps, kind)
    g = torch.Generator().manual_seed(0)
    x_t, noise = torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64)
    for t in (1, 10, 500, 999):
        x0 = (x_t - schedule.sigma[t] * noise) / schedule.alpha[t]
        mine = steps.rows(t).posterior_mean(x0, x_t)
        g = torch.Generator().manual_seed(t)
        step = scheduler.step(noise, t, x_t, generator=g)
        drawn = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t), dtype=x_t.dtype)
        torch.testing.assert_close(
            mine + variance[t] ** 0.5 * drawn, step.prev_sample, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(x0, step.pred_original_sample, rtol=1e-4, atol=1e-4)


def test_the_step_to_the_clean_image_is_the_estimate_itself():
    one = chain(NoiseSchedule.linear()).rows(0)
    assert one.posterior_mean(0.25, 9.0) == pytest.approx(0.25)
    assert one.posterior_variance == 0.0


def test_the_first_small_variance_is_the_next_ones():
    steps = chain(NoiseSchedule.linear())
    small = reverse_variances(steps, "small")
    assert small[0] == small[1] > 0
    np.testing.assert_array_equal(small[1:], steps.posterior_variance[1:])
    np.testing.assert_array_equal(reverse_variances(steps, "large"), steps.variance)


def test_a_path_may_leave_levels_out():
    schedule = NoiseSchedule.linear()
    path = [9, 99, 499, 999]
    steps = chain(schedule, path)
    mean, variance = 1.0, 0.0
    for i, t in enumerate(path):
        one = steps.rows(i)
        mean, variance = one.forward(mean, 0.0), one.gain**2 * variance + one.variance
        assert (mean, variance) == pytest.approx((schedule.alpha[t], schedule.sigma[t] ** 2))


@pytest.mark.parametrize("path", [[], [3, 3], [5, 2], [[1, 2]]])
def test_a_path_that_does_not_increase_is_refused(path):
    with pytest.raises(UsageError, match="path does not increase"):
        chain(NoiseSchedule.linear(), path)


def test_an_unknown_variance_is_refused_by_name():
    with pytest.raises(UsageError, match=r"did you mean.*small|allowed: small, large"):
        reverse_variances(chain(NoiseSchedule.linear()), "smal")


def test_the_learned_variance_lies_between_the_two_in_the_log():
    assert learned_variance(0.0, 0.02, 0.5) == pytest.approx(0.02)
    assert learned_variance(1.0, 0.02, 0.5) == pytest.approx(0.5)
    assert learned_variance(0.5, 0.02, 0.5) == pytest.approx(math.sqrt(0.02 * 0.5))


def test_the_score_of_a_gaussian_is_exact():
    # x0 ~ N(0, s²): log p(x_t) = −x_t²/(2(α²s² + σ²)) + const, E[ε | x_t] = σ·x_t/(α²s² + σ²)
    schedule, s, x_t = NoiseSchedule.linear(), 0.4, 1.3
    alpha, sigma = schedule.alpha[300], schedule.sigma[300]
    spread = alpha**2 * s**2 + sigma**2
    assert to_score(sigma * x_t / spread, sigma) == pytest.approx(-x_t / spread)


def test_annealed_langevin_dynamics_ends_in_the_distribution_of_the_score():
    s, mean = 0.5, 0.8
    rng = np.random.default_rng(1)
    x = rng.standard_normal(20_000) * 3
    found = langevin(
        lambda x, sigma: -(x - mean) / (s**2 + sigma**2),
        x,
        np.geomspace(2.0, 0.1, 8),
        lambda level, step: rng.standard_normal(x.shape),
        steps=100,
        epsilon=4e-3,
    )
    assert found.mean() == pytest.approx(mean, abs=0.02)
    assert found.std() == pytest.approx(math.hypot(s, 0.1), rel=0.02)


@pytest.mark.parametrize("sigmas", [[], [0.1, 0.2], [1.0, 0.0]])
def test_langevin_needs_decreasing_noise_levels(sigmas):
    with pytest.raises(UsageError, match="noise levels do not decrease"):
        langevin(lambda x, sigma: x, np.zeros(2), sigmas, lambda level, step: np.zeros(2))


def test_gains_broadcast_over_images():
    like = torch.zeros(3, 2, 4, 4)
    assert to_tensor([1.0, 2.0, 3.0], like).shape == (3, 1, 1, 1)
    steps = chain(NoiseSchedule.linear()).rows([5, 6, 7]).tensors(like)
    out = steps.forward(torch.ones(3, 2, 4, 4), 0.0)
    np.testing.assert_allclose(
        out[:, 0, 0, 0], np.sqrt(1 - betas(NoiseSchedule.linear())[5:8]), rtol=1e-6
    )
