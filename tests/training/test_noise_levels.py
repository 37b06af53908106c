"""Noise levels of training batches: discrete, continuous, and of a learned schedule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.training import noise_levels
from diffcls.training.noise_levels import (
    LearnedLogSnr,
    between,
    continuous,
    discrete,
    schedule_loss,
    times,
    to_schedule,
)

FIRST, LAST = 9.2, -10.1
SCHEDULES = (NoiseSchedule.linear, NoiseSchedule.scaled_linear, NoiseSchedule.squared_cosine)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_log_snr(seed: int, size: float) -> LearnedLogSnr:
    """Random weights in double precision, for properties that hold for all weights."""
    model = LearnedLogSnr(FIRST, LAST).double()
    g = rng(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * size)
    return model


# ---- times and levels ----------------------------------------------------------------------------


def test_times_are_stratified() -> None:
    drawn = times(64, rng())
    assert torch.equal((drawn * 64).floor(), torch.arange(64.0))
    assert not torch.equal(drawn, times(64, rng(1)))
    assert torch.equal(drawn, times(64, rng()))


@pytest.mark.parametrize("copies", [1, 3])
def test_a_batch_of_whole_schedules_holds_every_level_alike(copies: int) -> None:
    schedule = NoiseSchedule.squared_cosine(50)
    drawn = discrete(schedule)(50 * copies, rng())
    assert drawn.index is not None
    assert torch.equal(drawn.index.bincount(), torch.full((50,), copies))
    at = drawn.index.numpy()
    for found, whole in (
        (drawn.alpha, schedule.alpha),
        (drawn.sigma, schedule.sigma),
        (drawn.timestep, schedule.timesteps),
    ):
        np.testing.assert_allclose(found.numpy(), whole[at], rtol=1e-6)
    assert drawn.slope is None


def test_time_input_of_a_flow_is_that_of_its_schedule() -> None:
    drawn = discrete(NoiseSchedule.rectified_flow(20))(20, rng())
    torch.testing.assert_close(drawn.alpha + drawn.sigma, torch.ones(20))
    torch.testing.assert_close(drawn.timestep, drawn.sigma * 1000)


@pytest.mark.parametrize("build", SCHEDULES)
def test_between_levels_the_levels_themselves_are_the_schedules(
    build: Callable[[int], NoiseSchedule], monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = build(100)
    ends = (torch.arange(100) + 1) / 100
    monkeypatch.setattr(noise_levels, "times", lambda batch, rng, lateness: ends)
    drawn = continuous(between(schedule), 100)(100, rng())
    np.testing.assert_allclose(drawn.alpha.numpy(), schedule.alpha, rtol=1e-5)
    np.testing.assert_allclose(drawn.sigma.numpy(), schedule.sigma, rtol=1e-5)
    np.testing.assert_allclose(drawn.timestep.numpy(), schedule.timesteps, atol=1e-4)
    assert drawn.index is None and drawn.slope is None


def test_a_level_between_two_lies_between_them() -> None:
    schedule = NoiseSchedule.linear(100)
    drawn = continuous(between(schedule), 100)(400, rng())
    torch.testing.assert_close(drawn.alpha**2 + drawn.sigma**2, torch.ones(400))
    below = drawn.timestep.floor().long()
    inside = below >= 0  # before the first level there is nothing less noisy
    alpha = torch.tensor(schedule.alpha.copy(), dtype=torch.float32)
    found, below = drawn.alpha[inside], below[inside]
    assert (found <= alpha[below] + 1e-6).all()
    assert (found >= alpha[(below + 1).clamp(max=99)] - 1e-6).all()


@pytest.mark.parametrize("build", SCHEDULES)
def test_a_schedule_survives_the_way_to_continuous_time_and_back(
    build: Callable[[int], NoiseSchedule],
) -> None:
    schedule = build(1000)
    back = to_schedule(between(schedule), 1000)
    np.testing.assert_allclose(back.alpha, schedule.alpha, rtol=1e-4)
    np.testing.assert_allclose(back.sigma, schedule.sigma, rtol=1e-4)
    np.testing.assert_array_equal(back.timesteps, np.arange(1000))


def test_the_levels_of_a_learned_schedule_are_its_own_at_their_times() -> None:
    model = random_log_snr(3, 2.0).float()
    schedule = to_schedule(model, 40)
    with torch.no_grad():
        value = model((torch.arange(40) + 1) / 40)
    np.testing.assert_allclose(np.log(schedule.snr), value.numpy(), atol=1e-4)
    assert schedule.snr[-1] == pytest.approx(np.exp(LAST), rel=1e-3)


# ---- the learned schedule ------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), size=st.floats(0.1, 6.0))
def test_a_learned_log_snr_falls_from_end_to_end_whatever_its_weights(
    seed: int, size: float
) -> None:
    model = random_log_snr(seed, size)
    u = torch.linspace(0, 1, 501, dtype=torch.float64)
    with torch.no_grad():
        value = model(u)
    assert value[0] == FIRST
    assert float(value[-1]) == pytest.approx(LAST, rel=1e-14)
    assert (value.diff() < 0).all()


def test_a_learned_log_snr_does_not_depend_on_its_batch() -> None:
    model = random_log_snr(5, 2.0)
    u = torch.rand(9, generator=rng(), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([model(one[None]) for one in u]), model(u))


def test_only_the_slope_of_a_learned_schedule_has_a_gradient() -> None:
    model = random_log_snr(7, 1.0).float()
    drawn = continuous(model, 1000)(32, rng())
    u = (drawn.timestep + 1) / 1000
    torch.testing.assert_close((drawn.alpha / drawn.sigma).log() * 2, model(u).detach())
    step = 1e-3
    with torch.no_grad():
        double = random_log_snr(7, 1.0)
        around = [double(u.double() + d) for d in (step, -step)]
    assert drawn.slope is not None
    torch.testing.assert_close(
        drawn.slope.double(), (around[0] - around[1]) / (2 * step), rtol=5e-3, atol=1e-2
    )
    assert drawn.slope.requires_grad
    # the levels are inputs of the loss, not variables that it is minimised over
    assert not any(v.requires_grad for v in (drawn.alpha, drawn.sigma, drawn.timestep))
    drawn.slope.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def error(log_snr: Tensor) -> Tensor:
    """Model of a denoiser's squared error of the noise, which is small at low SNR."""
    return 0.1 + 0.8 * torch.sigmoid(0.5 * log_snr)


def rate(model: LearnedLogSnr) -> Tensor:
    """½·|λ′|·e at evenly spaced times; its mean is the bound, its spread that of an estimate."""
    u = ((torch.arange(2000) + 0.5) / 2000).requires_grad_()
    value = model(u)
    (slope,) = torch.autograd.grad(value.sum(), u)
    return (0.5 * slope.abs() * error(value)).detach()


def exact_time(log_snr: Tensor) -> Tensor:
    """u(λ) of the schedule on which |λ′|·e is constant: the share of ∫ e dλ that lies above λ."""
    fine = torch.linspace(FIRST, LAST, 20_001, dtype=torch.float64)
    e = error(fine)
    area = torch.cat([e[:1] * 0, ((e[1:] + e[:-1]) / 2).cumsum(0)])
    found = np.interp(-log_snr.numpy(), -fine.numpy(), (area / area[-1]).numpy())
    return torch.from_numpy(found)


def test_schedule_loss_minimises_the_variance_of_the_bounds_estimate() -> None:
    model = LearnedLogSnr(FIRST, LAST)
    before = rate(model)
    draw, g = continuous(model, 1000), rng()
    optimizer = torch.optim.Adam(model.parameters())
    steps = 600
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        drawn = draw(64, g)
        assert drawn.slope is not None
        loss = schedule_loss(drawn.slope, error((drawn.alpha / drawn.sigma).log() * 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = rate(model)
    # the bound itself stays: ½·∫ e dλ between the ends
    fine = torch.linspace(LAST, FIRST, 20_001, dtype=torch.float64)
    bound = 0.5 * float(torch.trapezoid(error(fine), fine))
    assert float(before.mean()) == pytest.approx(bound, rel=1e-4)
    assert float(after.mean()) == pytest.approx(bound, rel=1e-4)
    # the spread of its estimate falls from more than half of the mean to almost nothing
    assert before.std() / before.mean() > 0.5
    assert after.std() / after.mean() < 0.04
    # and the learned schedule is the unique minimum
    log_snr = torch.linspace(FIRST, LAST, 101, dtype=torch.float64)
    with torch.no_grad():
        found = model(exact_time(log_snr).float()).double()
    assert (found - log_snr).abs().max() < 0.15


def test_schedule_loss_has_no_gradient_by_the_error() -> None:
    slope = torch.tensor([-1.0, -3.0], requires_grad=True)
    e = torch.tensor([0.5, 2.0], requires_grad=True)
    value = schedule_loss(slope, e)
    assert float(value.detach()) == pytest.approx((0.25 * 1 + 1.0 * 9) / 2)
    value.backward()
    assert e.grad is None
    torch.testing.assert_close(slope.grad, torch.tensor([-0.25, -3.0]))


@pytest.mark.parametrize("lateness", [1.0, 2.0, 5.0])
def test_times_have_the_density_of_their_lateness(lateness: float) -> None:
    drawn = times(1000, rng(), lateness).double()
    # E[t^m] of the density κ·t^(κ − 1) is κ/(κ + m)
    for power in (1, 2, 3):
        expected = lateness / (lateness + power)
        assert float((drawn**power).mean()) == pytest.approx(expected, abs=1e-3)
