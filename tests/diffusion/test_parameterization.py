"""The 2×2 system of parameterizations: its inverse, its residuals, its weightings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.log_messages import own_messages
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffcls.diffusion.parameterization import (
    PARAMETERIZATIONS,
    WEIGHTINGS,
    Parameterization,
    loss_weight,
    parameterization,
    parameterization_of,
    resolve_weighting,
    stored_weighting,
)
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.support.errors import ModelError, UsageError

# DESIGN's table: name -> (a, b), det
TABLE: dict[str, tuple[Callable[[Any, Any], tuple[Any, Any]], Callable[[Any, Any], Any]]] = {
    "epsilon": (lambda alpha, sigma: (0, 1), lambda alpha, sigma: alpha),
    "sample": (lambda alpha, sigma: (1, 0), lambda alpha, sigma: -sigma),
    "v_prediction": (
        lambda alpha, sigma: (-sigma, alpha),
        lambda alpha, sigma: alpha**2 + sigma**2,
    ),
    "flow": (lambda alpha, sigma: (-1, 1), lambda alpha, sigma: alpha + sigma),
}
ROWS = [PARAMETERIZATIONS[name] for name in TABLE]
each_row = pytest.mark.parametrize("row", ROWS, ids=TABLE)

VP = st.floats(0.01, 1.56).map(lambda angle: (float(np.cos(angle)), float(np.sin(angle))))
FLOW = st.floats(0.01, 0.99).map(lambda s: (1.0 - s, s))
LEVELS = VP | FLOW
PIXELS = hnp.arrays(np.float64, (3, 3, 2, 2), elements=st.floats(-5, 5, width=32))

SCHEDULES = {
    "linear": NoiseSchedule.linear(),
    "scaled_linear": NoiseSchedule.scaled_linear(),
    "squared_cosine": NoiseSchedule.squared_cosine(),
    "short": NoiseSchedule.linear(20, 0.01, 0.4),
    "flow": NoiseSchedule.rectified_flow(),
    "zero SNR": NoiseSchedule.scaled_linear(rescale_zero_snr=True),
}


def test_the_table_is_the_one_tested_here() -> None:
    assert set(PARAMETERIZATIONS) == set(TABLE)
    assert all(row.name == name for name, row in PARAMETERIZATIONS.items())


# ---- one row -----------------------------------------------------------------------------------


@each_row
@given(level=LEVELS)
def test_coefficients_and_determinant_are_those_of_the_design(
    row: Parameterization, level: tuple[float, float]
) -> None:
    coefficients, det = TABLE[row.name]
    assert row.coefficients(*level) == coefficients(*level)
    assert row.det(*level) == pytest.approx(det(*level), rel=1e-12)


@each_row
@given(pixels=PIXELS, level=LEVELS)
def test_image_and_noise_come_back_from_the_target(
    row: Parameterization, pixels: Any, level: tuple[float, float]
) -> None:
    x0, noise, _ = pixels
    alpha, sigma = level
    x_t = alpha * x0 + sigma * noise
    out = row.target(x0, noise, alpha, sigma)
    assert row.to_x0(out, x_t, alpha, sigma) == pytest.approx(x0, abs=1e-9)
    assert row.to_noise(out, x_t, alpha, sigma) == pytest.approx(noise, abs=1e-9)


@each_row
@given(pixels=PIXELS, level=LEVELS)
def test_guesses_from_any_output_agree_with_the_noised_image(
    row: Parameterization, pixels: Any, level: tuple[float, float]
) -> None:
    x_t, out, _ = pixels
    x0, noise = row.to_x0(out, x_t, *level), row.to_noise(out, x_t, *level)
    assert level[0] * x0 + level[1] * noise == pytest.approx(x_t, abs=1e-9)
    assert row.target(x0, noise, *level) == pytest.approx(out, abs=1e-8)


@each_row
@given(pixels=PIXELS, level=LEVELS)
def test_noise_error_is_the_native_residual_scaled(
    row: Parameterization, pixels: Any, level: tuple[float, float]
) -> None:
    x0, noise, out = pixels
    alpha, sigma = level
    x_t = alpha * x0 + sigma * noise
    native = out - row.target(x0, noise, alpha, sigma)
    error = row.to_noise(out, x_t, alpha, sigma) - noise
    # ‖ε − ε̂‖² = (α/det)²·‖target − out‖², and so for l1 with |α/det|
    scale = row.noise_scale(alpha, sigma)
    assert scale == pytest.approx(abs(alpha / TABLE[row.name][1](alpha, sigma)), rel=1e-9)
    assert (error**2).sum() == pytest.approx(scale**2 * (native**2).sum(), rel=1e-6, abs=1e-9)
    assert abs(error).sum() == pytest.approx(scale * abs(native).sum(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "scale"), [("epsilon", 1.0), ("sample", 0.0), ("v_prediction", 0.0)]
)
def test_noise_scale_where_no_signal_is_left_is_its_limit(name: str, scale: float) -> None:
    alpha, sigma = np.array([1e-9, 0.0]), np.array([1.0, 1.0])
    assert parameterization(name).noise_scale(alpha, sigma) == pytest.approx([scale] * 2, abs=1e-8)


@each_row
def test_arrays_and_tensors_give_the_same(row: Parameterization) -> None:
    torch = pytest.importorskip("torch", reason="compares with tensors")
    rng = np.random.default_rng(0)
    x0, noise, out = rng.standard_normal((3, 4, 3, 2, 2))
    angle = rng.uniform(0.1, 1.5, (4, 1, 1, 1))
    alpha, sigma = np.cos(angle), np.sin(angle)
    x_t = alpha * x0 + sigma * noise
    for method, arguments in (
        (row.target, (x0, noise, alpha, sigma)),
        (row.to_x0, (out, x_t, alpha, sigma)),
        (row.to_noise, (out, x_t, alpha, sigma)),
        (row.noise_scale, (alpha, sigma)),
    ):
        expected = method(*arguments)
        tensor = method(*map(torch.from_numpy, arguments))
        assert tensor.numpy() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_one_diffusers_step_sees_the_same_image_in_an_output(prediction: str) -> None:
    torch = pytest.importorskip("torch", reason="diffusers steps tensors")
    diffusers = pytest.importorskip("diffusers", reason="the reference is diffusers")
    scheduler = diffusers.DDIMScheduler(prediction_type=prediction, clip_sample=False)
    schedule = NoiseSchedule.from_diffusers(scheduler.config)
    row = parameterization_of(scheduler.config)
    generator = torch.Generator().manual_seed(0)
    x_t, out = torch.randn(2, 1, 3, 4, 4, generator=generator, dtype=torch.float64)
    scheduler.set_timesteps(1000)
    for t in (0, 1, 500, 900):
        theirs = scheduler.step(out, t, x_t).pred_original_sample
        ours = row.to_x0(out, x_t, schedule.alpha[t], schedule.sigma[t])
        assert ours.numpy() == pytest.approx(theirs.numpy(), rel=1e-4, abs=1e-5)


def test_v_target_is_the_velocity_of_diffusers() -> None:
    torch = pytest.importorskip("torch", reason="diffusers computes with tensors")
    diffusers = pytest.importorskip("diffusers", reason="the reference is diffusers")
    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction")
    schedule = NoiseSchedule.from_diffusers(scheduler.config)
    x0, noise = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    index = np.array([0, 250, 700, 999])
    theirs = scheduler.get_velocity(x0, noise, torch.from_numpy(index)).numpy()
    alpha, sigma = (g[index].reshape(4, 1, 1, 1) for g in (schedule.alpha, schedule.sigma))
    ours = parameterization("v_prediction").target(x0.numpy(), noise.numpy(), alpha, sigma)
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_flow_target_is_the_velocity_of_the_straight_path() -> None:
    rng = np.random.default_rng(0)
    x0, noise = rng.standard_normal((2, 5))
    step = 1e-6
    path = [(1 - s) * x0 + s * noise for s in (0.4, 0.4 + step)]
    velocity = parameterization("flow").target(x0, noise, 0.6, 0.4)
    assert velocity == pytest.approx((path[1] - path[0]) / step, rel=1e-6)


# ---- names -------------------------------------------------------------------------------------


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="did you mean 'v_prediction'"):
        parameterization("v-prediction")
    with pytest.raises(ModelError, match="'score'; allowed: epsilon, sample, v_prediction, flow"):
        parameterization_of({"prediction_type": "score"})
    with pytest.raises(UsageError, match="did you mean 'snr-clipped'"):
        loss_weight("snr-cliped", SCHEDULES["linear"])


def test_a_config_without_prediction_type_is_epsilon_as_in_diffusers() -> None:
    assert parameterization_of({}).name == "epsilon"


# ---- weightings --------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_are_finite_and_of_mean_1(weighting: str, schedule: NoiseSchedule) -> None:
    weight = loss_weight(weighting, schedule)
    assert weight.shape == (len(schedule),)
    assert weight.dtype == np.float64
    assert np.isfinite(weight).all()
    assert (weight >= 0).all()
    assert weight.mean() == pytest.approx(1.0, rel=1e-9)


def noise_error_and(row: Parameterization, schedule: NoiseSchedule) -> tuple[Any, Any]:
    """(T,) squared ε-errors of a random ε-network, and the errors of its `row`'s target."""
    rng = np.random.default_rng(0)
    x0, noise, guess = rng.standard_normal((3, 1, 16))
    alpha, sigma = schedule.alpha[:, None], schedule.sigma[:, None]
    x_t = alpha * x0 + sigma * noise
    x0_guess = (x_t - sigma * guess) / alpha
    target = row.target(x0, noise, alpha, sigma)
    out = row.target(x0_guess, guess, alpha, sigma)
    errors = ((noise - guess) ** 2).sum(axis=1) * np.ones(len(schedule))
    return errors, ((target - out) ** 2).sum(axis=1)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squared_cosine", "short"])
@pytest.mark.parametrize(("weighting", "row"), [("x0", "sample"), ("v", "v_prediction")])
def test_weighted_noise_error_is_the_error_of_that_target(
    weighting: str, row: str, name: str
) -> None:
    schedule = SCHEDULES[name]
    noise_error, expected = noise_error_and(parameterization(row), schedule)
    weighted = loss_weight(weighting, schedule) * noise_error
    # the weights' scale is free: only their ratios tell
    assert weighted / weighted[0] == pytest.approx(expected / expected[0], rel=1e-6)


@pytest.mark.parametrize("weighting", ["x0", "v", "vlb"])
def test_level_without_signal_weighs_nothing_and_leaves_the_others_their_shares(
    weighting: str,
) -> None:
    whole = SCHEDULES["zero SNR"]
    cut = NoiseSchedule(whole.alpha[:-1], whole.sigma[:-1], whole.timesteps[:-1])
    weight = loss_weight(weighting, whole)
    assert weight[-1] == 0.0
    assert weight[:-1] * 999 / 1000 == pytest.approx(loss_weight(weighting, cut), rel=1e-9)


@pytest.mark.parametrize(
    "betas", [np.linspace(1e-4, 0.02, 1000), np.geomspace(1e-3, 0.5, 30), np.full(40, 0.1)]
)
def test_vlb_is_the_bound_of_ho_et_al(betas: Any) -> None:
    cumulative = np.cumprod(1 - betas)
    expected = []
    for t in range(1, len(betas)):  # from the second on: the first is the reconstruction term
        # β̃_t = (1 − ᾱ_{t−1})/(1 − ᾱ_t)·β_t; β_t²/(2·σ_t²·α_t·(1 − ᾱ_t)), σ_t² = β̃_t   (eq. 12)
        posterior = (1 - cumulative[t - 1]) / (1 - cumulative[t]) * betas[t]
        expected.append(betas[t] ** 2 / (2 * posterior * (1 - betas[t]) * (1 - cumulative[t])))
    weight = loss_weight("vlb", NoiseSchedule.from_betas(betas))
    assert weight[1:] / weight[1] == pytest.approx(np.array(expected) / expected[0], rel=1e-6)
    assert weight[0] == weight[1]


def test_snr_clipped_is_snr_with_a_maximum_of_5() -> None:
    schedule = SCHEDULES["linear"]
    clipped = loss_weight("snr-clipped", schedule)
    noisy = schedule.snr < 5
    assert 0 < noisy.sum() < len(schedule)
    assert (clipped[~noisy] == clipped.max()).all()
    assert clipped[noisy] / clipped.max() == pytest.approx(schedule.snr[noisy] / 5)
    plain = loss_weight("snr", schedule)
    assert plain / plain[-1] == pytest.approx(schedule.snr / schedule.snr[-1])


def test_the_old_name_of_snr_clipped_gives_the_same_weights_and_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    schedule = SCHEDULES["linear"]
    assert resolve_weighting("snr-clipped") == "snr-clipped"
    assert not own_messages(caplog)
    assert resolve_weighting("min-snr") == "snr-clipped"
    assert "now named 'snr-clipped'" in caplog.text
    same = loss_weight("min-snr", schedule), loss_weight("snr-clipped", schedule)
    assert np.array_equal(*same)
    for name in WEIGHTINGS:
        assert resolve_weighting(stored_weighting(name)) == name
