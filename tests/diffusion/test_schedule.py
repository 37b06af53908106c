"""Noise schedules against diffusers, against closed forms, and what they refuse."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffcls.diffusion.parameterization import parameterization_of
from diffcls.diffusion.schedule import NoiseSchedule, is_flow
from diffcls.support.errors import ModelError, UsageError

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
DDPM_CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "linear": {"beta_schedule": "linear", "beta_start": 2e-4, "beta_end": 0.03},
    "scaled_linear": SD,
    "sigmoid": {"beta_schedule": "sigmoid", "beta_start": 0.0001, "beta_end": 0.02},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
    "trained_betas": {"trained_betas": np.geomspace(1e-4, 0.05, 300).tolist()},
    "short": {**SD, "num_train_timesteps": 50},
    "linear, zero SNR": {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
    "scaled_linear, zero SNR": {**SD, "rescale_betas_zero_snr": True},
    "trained_betas, zero SNR": {
        "trained_betas": np.linspace(1e-4, 0.02, 700).tolist(),
        "rescale_betas_zero_snr": True,
    },
}
FLOW_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "class name in the config": ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, ""),
    "class name beside it": ({"num_train_timesteps": 1000}, "FlowMatchHeunDiscreteScheduler"),
    "class name empty in it": ({"_class_name": None}, "FlowMatchEulerDiscreteScheduler"),
    "prediction type": (
        {**SD, "prediction_type": "flow_prediction"},
        "DPMSolverMultistepScheduler",
    ),
    "flow sigmas": ({**SD, "use_flow_sigmas": True}, "UniPCMultistepScheduler"),
    "flow sigmas, says epsilon": ({"use_flow_sigmas": True, "prediction_type": "epsilon"}, ""),
}
BETAS = hnp.arrays(
    np.float64, st.integers(1, 60), elements=st.floats(1e-6, 1.0, allow_subnormal=False)
)


def ddpm_scheduler(config: dict[str, Any]) -> Any:
    diffusers = pytest.importorskip("diffusers", reason="the reference is diffusers")
    return diffusers.DDPMScheduler(**config)


# ---- agreement with diffusers ------------------------------------------------------------------


@pytest.mark.parametrize("config", DDPM_CONFIGS.values(), ids=DDPM_CONFIGS)
def test_signal_left_is_that_of_diffusers(config: dict[str, Any]) -> None:
    reference = ddpm_scheduler(config)
    ours = NoiseSchedule.from_diffusers(config)  # what it leaves out is as diffusers fills it in
    assert (ours.alpha == NoiseSchedule.from_diffusers(reference.config).alpha).all()
    assert len(ours) == len(reference.alphas_cumprod)
    # diffusers multiplies in float32: its ᾱ, and the same from its betas in float64
    recomputed = np.cumprod(1.0 - reference.betas.double().numpy())
    assert ours.alpha**2 == pytest.approx(reference.alphas_cumprod.double().numpy(), abs=1e-6)
    assert ours.alpha**2 == pytest.approx(recomputed, abs=1e-6)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("scale", [1.0, 3.0, 4.0])
@pytest.mark.parametrize("name", ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"])
def test_shifted_snr_is_that_of_diffusers(name: str, scale: float, zero_snr: bool) -> None:
    diffusers = pytest.importorskip("diffusers", reason="the reference is diffusers")
    reference = getattr(diffusers, name)(snr_shift_scale=scale, rescale_betas_zero_snr=zero_snr)
    ours = NoiseSchedule.from_diffusers(reference.config)
    assert ours.alpha**2 == pytest.approx(reference.alphas_cumprod.double().numpy(), abs=1e-6)
    unshifted = NoiseSchedule.from_diffusers({**reference.config, "snr_shift_scale": 1.0})
    if not zero_snr:
        assert ours.snr == pytest.approx(unshifted.snr / scale)


def test_noised_image_is_that_of_diffusers() -> None:
    torch = pytest.importorskip("torch", reason="diffusers noises tensors")
    reference = ddpm_scheduler(SD)
    ours = NoiseSchedule.from_diffusers(reference.config)
    x0, noise = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    index = np.array([0, 1, 333, 998, 999])
    theirs = reference.add_noise(x0, noise, torch.from_numpy(index)).numpy()
    alpha, sigma = (g[index].reshape(5, 1, 1, 1) for g in (ours.alpha, ours.sigma))
    assert alpha * x0.numpy() + sigma * noise.numpy() == pytest.approx(theirs, abs=1e-5)


def test_the_sampler_that_a_pipeline_ships_does_not_matter() -> None:
    expected = NoiseSchedule.from_diffusers(SD)
    for name in ("PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"):
        ours = NoiseSchedule.from_diffusers({**SD, "steps_offset": 1, "_class_name": name})
        assert (ours.alpha == expected.alpha).all()
        assert (ours.timesteps == np.arange(1000)).all()


def test_beta_schedule_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"'laplace'; allowed: linear, .*squaredcos_cap_v2"):
        NoiseSchedule.from_diffusers({"beta_schedule": "laplace"})


# ---- closed forms ------------------------------------------------------------------------------


@given(BETAS)
def test_chain_of_betas_keeps_the_variance_and_composes_step_by_step(betas: Any) -> None:
    schedule = NoiseSchedule.from_betas(betas)
    assert schedule.alpha**2 + schedule.sigma**2 == pytest.approx(np.ones(len(betas)), abs=1e-12)
    # eq. 2 of Ho et al.: a step scales what there is by √(1 − β) and adds noise of variance β
    variance, gain = 0.0, 1.0
    for beta, alpha, sigma in zip(betas, schedule.alpha, schedule.sigma, strict=True):
        gain, variance = gain * math.sqrt(1 - beta), variance * (1 - beta) + beta
        assert alpha == pytest.approx(gain, rel=1e-9)
        assert sigma**2 == pytest.approx(variance, rel=1e-9)


def test_squared_cosine_follows_its_curve_until_betas_are_capped() -> None:
    schedule = NoiseSchedule.squared_cosine(1000)
    u = np.arange(1, 1001) / 1000
    curve = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 / math.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert schedule.alpha[:999] ** 2 == pytest.approx(curve[:999], abs=1e-12)
    assert schedule.alpha[999] ** 2 == pytest.approx(1e-3 * schedule.alpha[998] ** 2, rel=1e-9)


@pytest.mark.parametrize(
    "make", [NoiseSchedule.linear, NoiseSchedule.scaled_linear, NoiseSchedule.squared_cosine]
)
def test_zero_snr_ends_without_signal_and_begins_as_before(
    make: Callable[..., NoiseSchedule],
) -> None:
    plain, rescaled = make(), make(rescale_zero_snr=True)
    assert rescaled.snr[-1] == 0.0
    assert rescaled.alpha[0] == pytest.approx(plain.alpha[0], rel=1e-12)
    # Lin et al.: one straight line takes the old √ᾱ to the new
    slope = np.polyfit(plain.alpha, rescaled.alpha, 1)
    assert rescaled.alpha == pytest.approx(np.polyval(slope, plain.alpha), abs=1e-12)


def test_snr_is_the_ratio_of_powers_and_infinite_without_noise() -> None:
    schedule = NoiseSchedule([1.0, 0.8, 0.0], [0.0, 0.6, 1.0], [0, 1, 2])
    assert schedule.snr.tolist() == [math.inf, pytest.approx((0.8 / 0.6) ** 2), 0.0]


# ---- flow --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "name"), FLOW_CONFIGS.values(), ids=FLOW_CONFIGS)
def test_flow_is_found_by_every_sign_and_never_read_as_epsilon(
    config: dict[str, Any], name: str
) -> None:
    assert is_flow(config, name)
    assert parameterization_of(config, name).name == "flow"
    schedule = NoiseSchedule.from_diffusers(config, name)
    assert schedule.alpha + schedule.sigma == pytest.approx(np.ones(1000))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_what_is_not_flow_is_not_taken_for_it(prediction: str) -> None:
    config = {**SD, "prediction_type": prediction, "use_flow_sigmas": False}
    assert not is_flow(config, "UniPCMultistepScheduler")
    assert parameterization_of(config, "UniPCMultistepScheduler").name == prediction


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.5])
def test_flow_of_a_real_scheduler_ignores_its_shift(shift: float) -> None:
    diffusers = pytest.importorskip("diffusers", reason="the config is diffusers'")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    # what diffusers makes of that config says epsilon: the trap
    assert diffusers.DDPMScheduler.from_config(scheduler.config).config.prediction_type == "epsilon"
    # as read from a file, and as held by a pipeline, where the class says what it is
    for config, name in (
        (scheduler.config, "FlowMatchEulerDiscreteScheduler"),
        (dict(scheduler.config) | {"_class_name": "FlowMatchEulerDiscreteScheduler"}, ""),
    ):
        assert parameterization_of(config, name).name == "flow"
        sigma = NoiseSchedule.from_diffusers(config, name).sigma
        assert (sigma == (np.arange(1000) + 0.5) / 1000).all()


@given(st.integers(1, 3000), st.sampled_from([1.0, 1000.0]))
def test_flow_levels_are_spread_evenly_over_the_open_interval(steps: int, scale: float) -> None:
    flow = NoiseSchedule.rectified_flow(steps, scale)
    assert 0 < flow.sigma[0]
    assert flow.sigma[-1] < 1
    assert np.diff(flow.sigma) == pytest.approx(np.full(steps - 1, 1 / steps))
    assert flow.sigma + flow.sigma[::-1] == pytest.approx(np.ones(steps))
    assert flow.timesteps == pytest.approx(scale * flow.sigma)


def test_flow_time_scale_and_length_come_through() -> None:
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 10}
    flow = NoiseSchedule.from_diffusers(config, flow_time_scale=1.0)
    assert flow.timesteps == pytest.approx(np.linspace(0.05, 0.95, 10))


# ---- immutable, and in range -------------------------------------------------------------------


def test_schedule_cannot_be_changed_nor_follows_the_arrays_it_was_made_of() -> None:
    alpha = np.array([0.9, 0.1])
    schedule = NoiseSchedule(alpha, np.sqrt(1 - alpha**2), np.arange(2.0))
    alpha[0] = 0.5
    assert schedule.alpha[0] == 0.9
    for name in ("alpha", "sigma", "timesteps"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(schedule, name)[0] = 0.5
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(schedule, name, alpha)


def test_arrays_are_float64_whatever_is_given() -> None:
    schedule = NoiseSchedule(np.float32([0.5]), [1], np.array([7]))
    assert {schedule.alpha.dtype, schedule.sigma.dtype, schedule.timesteps.dtype} == {
        np.dtype(np.float64)
    }


def test_schedules_can_be_compared_and_kept_in_a_set() -> None:
    one, other = NoiseSchedule.linear(), NoiseSchedule.linear()
    assert one == one
    assert one != other
    assert len({one, other}) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseSchedule([1.1], [0.0], [0]), "alpha out of range"),
        (lambda: NoiseSchedule([0.5], [-0.1], [0]), "sigma out of range"),
        (lambda: NoiseSchedule([math.nan], [0.5], [0]), "alpha out of range"),
        (lambda: NoiseSchedule([0.5, 0.4], [0.5], [0]), "do not match"),
        (lambda: NoiseSchedule([], [], []), "do not match"),
        (lambda: NoiseSchedule([[0.5]], [[0.5]], [[0]]), "do not match"),
        (lambda: NoiseSchedule.from_betas([0.1, 0.0]), "betas out of range"),
        (lambda: NoiseSchedule.from_betas([0.1, 1.1]), "betas out of range"),
        (lambda: NoiseSchedule.from_betas([0.1, math.nan]), "betas out of range"),
        (lambda: NoiseSchedule.from_betas([]), "betas out of range"),
        (lambda: NoiseSchedule.from_alphas_cumprod([0.9, 1.5]), "alphas_cumprod out of range"),
        (lambda: NoiseSchedule.from_alphas_cumprod([0.9, -0.1]), "alphas_cumprod out of range"),
        (lambda: NoiseSchedule.from_alphas_cumprod([]), "alphas_cumprod out of range"),
        (lambda: NoiseSchedule.linear(0), "betas out of range"),
        (lambda: NoiseSchedule.rectified_flow(0), "do not match"),
        (lambda: NoiseSchedule.from_diffusers({"trained_betas": [2.0]}), "betas out of range"),
    ],
)
def test_what_is_out_of_range_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_variance_exploding_models_are_refused() -> None:
    # diffusers would build a beta schedule from such a config without complaint
    for name in ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"):
        with pytest.raises(ModelError, match=f"EDM.*{name}"):
            NoiseSchedule.from_diffusers({"_class_name": name, "sigma_max": 80.0})
        with pytest.raises(ModelError, match="EDM"):
            NoiseSchedule.from_diffusers({}, name)
