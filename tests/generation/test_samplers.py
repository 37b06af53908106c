"""Samplers against closed forms, on the exact denoiser of a Gaussian."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from diffcls.diffusion.process import Step, chain, is_flow, langevin, reverse_variances
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.generation.guidance import guided
from diffcls.generation.interpolate import follow, slerp
from diffcls.generation.sample import sample
from diffcls.generation.samplers import SAMPLERS, find, path_of
from diffcls.generation.solvers import Estimates, ancestral, dpm_solver
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.support.errors import UsageError

SHAPE = (2, 4, 4)
MEAN = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) - 0.5
SPREAD = 0.3
COUNT = 2000
PRESERVING = NoiseSchedule.scaled_linear()
FLOW = NoiseSchedule.rectified_flow(1000)


def denoiser(schedule: NoiseSchedule = PRESERVING) -> GaussianDenoiser:
    kind = "flow" if is_flow(schedule) else "v_prediction"
    return GaussianDenoiser({"": MEAN}, SPREAD, schedule, kind)


def predict_of(model: GaussianDenoiser, count: int):
    cond = model.encode_prompts([""] * count)
    return guided(model, cond, cond, 1.0)


def solved(name: str, model: GaussianDenoiser, x_t: Tensor, steps: int) -> Tensor:
    g = torch.Generator().manual_seed(8)
    found = find(name, model.schedule).solve(
        model.schedule,
        predict_of(model, len(x_t)),
        x_t,
        path_of(model.schedule, steps),
        lambda step: torch.randn(x_t.shape, generator=g),
    )
    return list(found)[-1]


def fit(schedule: NoiseSchedule) -> list[str]:
    of_all = [k for k, v in SAMPLERS.items() if not v.learned]
    return [k for k in of_all if SAMPLERS[k].flow in (None, is_flow(schedule))]


CASES = [(name, "preserving") for name in fit(PRESERVING)] + [(name, "flow") for name in fit(FLOW)]
SLOW = [(name, "preserving") for name in ("ddpm", "ddpm-small", "heun", "langevin")]
FEWER_STEPS = {("langevin", "flow"): 400}


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case in SLOW else []) for case in CASES],
)
def test_every_sampler_reaches_the_distribution_of_the_data(name: str, kind: str) -> None:
    model = denoiser(PRESERVING if kind == "preserving" else FLOW)
    alpha, sigma = float(model.schedule.alpha[-1]), float(model.schedule.sigma[-1])
    noise = torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(2))
    # the marginal at the last level, so that what is left is the sampler's own error
    x_t = alpha * MEAN + math.hypot(alpha * SPREAD, sigma) * noise
    images = solved(name, model, x_t, FEWER_STEPS.get((name, kind), 1000))
    error = SPREAD / COUNT**0.5
    assert (images.mean(dim=0) - MEAN).abs().max() < 4.5 * error  # the largest of 32
    spread = float((images - MEAN).std())
    assert spread == pytest.approx(SPREAD, rel=0.03)


def reverse_chain(steps: Step, variances: np.ndarray, last: bool) -> float:
    """Closed form of the standard deviation that ancestral sampling ends at, on the exact denoiser.

    x̂0 = μ + k·(x_t − α_t·μ) with k = α_t·s²/(α_t²·s² + σ_t²), so each step scales what there is
    about the mean and adds its own variance.
    """
    variance = (steps.alpha_t[-1] * SPREAD) ** 2 + steps.sigma_t[-1] ** 2
    for i in reversed(range(len(steps.alpha_t))):
        alpha, sigma = steps.alpha_t[i], steps.sigma_t[i]
        k = alpha * SPREAD**2 / ((alpha * SPREAD) ** 2 + sigma**2)
        variance *= (steps.of_x0[i] * k + steps.of_x_t[i]) ** 2
        variance += variances[i] if i or last else 0.0
    return math.sqrt(variance)


@pytest.mark.parametrize("kind", ["small", "large", "exact"])
def test_samples_have_the_covariance_of_the_reverse_steps_variance(kind: str) -> None:
    model = denoiser()
    path = path_of(PRESERVING, 25)
    steps = chain(PRESERVING, path[::-1])
    if kind == "exact":
        # Var(x_s | x_t) = β̃ + of_x0²·Var(x0 | x_t)
        clean = SPREAD**2 * steps.sigma_t**2 / ((steps.alpha_t * SPREAD) ** 2 + steps.sigma_t**2)
        variances = steps.posterior_variance + steps.of_x0**2 * clean
    else:
        variances = reverse_variances(steps, kind)
    expected = reverse_chain(steps, variances, last=kind == "exact")
    if kind == "exact":
        assert expected == pytest.approx(SPREAD, rel=1e-12)
    else:  # neither is, and in 25 steps they are far from it on either side
        assert (expected < 0.8 * SPREAD) if kind == "small" else (expected > 1.1 * SPREAD)

    g = torch.Generator().manual_seed(11)
    alpha, sigma = float(PRESERVING.alpha[-1]), float(PRESERVING.sigma[-1])
    noise = torch.randn(COUNT, *SHAPE, generator=g)
    x_t = alpha * MEAN + math.hypot(alpha * SPREAD, sigma) * noise
    solve = ancestral(variances if kind == "exact" else kind)
    found = list(
        solve(
            PRESERVING,
            predict_of(model, COUNT),
            x_t,
            path,
            lambda step: torch.randn(x_t.shape, generator=g),
        )
    )[-1]
    flat = (found - MEAN).reshape(COUNT, -1).double().numpy()
    size = flat.shape[1]
    assert abs(flat.mean(axis=0)).max() < 4.5 * expected / COUNT**0.5
    # all dimensions together: a standard deviation of n values is known to 1/√(2n)
    assert flat.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * flat.size))
    covariance = np.cov(flat, rowvar=False)
    apart = covariance[~np.eye(size, dtype=bool)]
    assert abs(apart).max() < 4.5 * expected**2 / COUNT**0.5
    assert abs(np.diag(covariance) / expected**2 - 1).max() < 4.5 * math.sqrt(2 / COUNT)


def test_a_learned_variance_follows_the_mixture_of_the_network() -> None:
    model, path = denoiser(), path_of(PRESERVING, 12)
    steps = chain(PRESERVING, path[::-1])
    place_of = {int(t): place for place, t in enumerate(path[::-1])}
    small, large = (reverse_variances(steps, kind) for kind in ("small", "large"))
    clean = SPREAD**2 * steps.sigma_t**2 / ((steps.alpha_t * SPREAD) ** 2 + steps.sigma_t**2)
    exact = steps.posterior_variance + steps.of_x0**2 * clean
    x_t = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3))
    plain = predict_of(model, len(x_t))

    def walked(variance: str | np.ndarray, mixture: np.ndarray) -> list[Tensor]:
        def predict(x: Tensor, index: int) -> Estimates:
            v = torch.full_like(x, float(mixture[place_of[index]]))
            return Estimates(*plain(x, index)[:2], v)

        def draw(step: int) -> Tensor:
            return torch.randn(x_t.shape, generator=torch.Generator().manual_seed(step))

        return list(ancestral(variance)(PRESERVING, predict, x_t, path, draw))

    # exp(v·log β + (1 − v)·log β̃) is the exact variance at this v; there is none at the first step
    of_exact = np.append(0.0, np.log(exact[1:] / small[1:]) / np.log(large[1:] / small[1:]))
    cases = (("small", np.zeros(12)), ("large", np.ones(12)), (exact, of_exact))
    for variance, mixture in cases:
        mine, other = walked("learned", mixture), walked(variance, mixture)
        # with numbers given, noise is added to the last estimate, too
        for one, another in zip(mine[:-1], other[:-1], strict=True):
            torch.testing.assert_close(one, another)


def test_sampling_with_learned_variance_needs_a_model_that_learned_it() -> None:
    with pytest.raises(UsageError, match="a model with a learned variance: 'ddpm-learned'"):
        find("ddpm-learned", PRESERVING)
    assert find("ddpm-learned", PRESERVING, learned=True).learned


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "dpm++"])
def test_deterministic_samplers_follow_the_one_flow(name: str) -> None:
    # the probability flow of a Gaussian maps noise z to μ + s·z
    model = denoiser()
    noise = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(3))
    alpha, sigma = float(model.schedule.alpha[-1]), float(model.schedule.sigma[-1])
    x_t = alpha * MEAN + math.hypot(alpha * SPREAD, sigma) * noise
    errors = [
        float((solved(name, model, x_t, n) - (MEAN + SPREAD * noise)).abs().mean())
        for n in (10, 40, 160)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03 * SPREAD


def test_second_order_is_more_accurate_at_equal_forward_passes() -> None:
    model = denoiser()
    noise = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(3))
    alpha, sigma = float(model.schedule.alpha[-1]), float(model.schedule.sigma[-1])
    x_t = alpha * MEAN + math.hypot(alpha * SPREAD, sigma) * noise
    exact = MEAN + SPREAD * noise
    error = {
        name: float((solved(name, model, x_t, steps) - exact).abs().mean())
        for name, steps in (("euler", 39), ("heun", 20))
    }
    assert SAMPLERS["heun"].forwards(20) == 39
    assert error["heun"] < 0.5 * error["euler"]


def test_ddim_equals_diffusers_own_spacing_if_steps_divide_the_schedule() -> None:
    # diffusers' own spacing of 10 out of 1,000 levels
    model = denoiser()
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(10)
    x = x_t = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(4))
    predict = predict_of(model, 4)
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, int(t))[1], t, x).prev_sample
    path = scheduler.timesteps.numpy().astype(np.int64)
    mine = list(SAMPLERS["ddim"].solve(model.schedule, predict, x_t, path, torch.zeros))[-1]
    torch.testing.assert_close(mine, x, atol=1e-4, rtol=1e-3)


def second_order_estimates(
    schedule: NoiseSchedule, predict: Any, x: Tensor, path: np.ndarray
) -> list[Tensor]:
    """DPM-Solver++(2M) as it is published (Lu et al. 2022, algorithm 2), in double precision."""
    alpha, sigma = schedule.alpha[path], schedule.sigma[path]
    with np.errstate(divide="ignore"):  # λ = −∞ where the last level holds no signal
        log_snr = np.log(alpha / sigma)
    estimates: list[Tensor] = []
    for i, t in enumerate(path):
        estimates.append(predict(x, int(t)).x0)
        if i + 1 < len(path):
            h, d = log_snr[i + 1] - log_snr[i], estimates[-1]
            if i:
                before = log_snr[i] - log_snr[i - 1]
                d = d + (d - estimates[-2]) * float(h / (2 * before))
            x = float(sigma[i + 1] / sigma[i]) * x - float(alpha[i + 1] * np.expm1(-h)) * d
    return estimates


@pytest.mark.parametrize("steps", [1, 2, 10, 50])
@pytest.mark.parametrize(
    ("schedule", "tolerance"),
    [
        (PRESERVING, 1e-4),
        (FLOW, 1e-4),
        # diffusers limits σ/α to 2¹², which is not quite the end without signal
        (NoiseSchedule.scaled_linear(rescale_zero_snr=True), 2e-2),
    ],
    ids=["preserving", "flow", "zero terminal SNR"],
)
def test_dpm_solver_of_diffusers_is_the_published_one_on_any_schedule(
    schedule: NoiseSchedule, tolerance: float, steps: int
) -> None:
    model = denoiser(schedule)
    x_t = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(5))
    path, predict = path_of(schedule, steps), predict_of(model, 4)
    expected = second_order_estimates(schedule, predict, x_t, path)
    found = list(dpm_solver(schedule, predict, x_t, path, torch.zeros))
    assert len(found) == steps
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=1e-3)


def test_ancestral_sampling_is_ours_as_diffusers_shares_one_generator_among_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given the same noise both agree; but only ours takes the noise of each image by itself."""
    model, path = denoiser(), path_of(PRESERVING, 1000)
    x_t = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(6))

    def noise(step: int) -> Tensor:
        return torch.randn(x_t.shape, generator=torch.Generator().manual_seed(step))

    scheduler = diffusers.DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        variance_type="fixed_large",
    )
    scheduler.set_timesteps(1000)
    predict, x = predict_of(model, 3), x_t
    for step, t in enumerate(scheduler.timesteps[:50]):
        replaced = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
        monkeypatch.setattr(replaced, lambda *_, s=step, **__: noise(s))
        x = scheduler.step(predict(x, int(t)).noise, t, x).prev_sample
    own = ancestral("large")(PRESERVING, predict, x_t, path, noise)
    after = [next(own) for _ in range(51)][-1]  # the estimate at the same x
    torch.testing.assert_close(
        after, predict(x, int(scheduler.timesteps[50])).x0, atol=1e-3, rtol=1e-3
    )


def test_langevin_is_ours_as_the_step_size_of_diffusers_depends_on_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A corrector step of ScoreSdeVeScheduler is a Langevin step, but not of each image alone.

    Its size follows from the mean norms of scores and noises over the batch (Song et al. 2021b,
    algorithm 4). diffusers has no annealed Langevin dynamics with the step sizes of the levels.
    """
    snr, scheduler = 0.2, diffusers.ScoreSdeVeScheduler(snr=0.2)
    scheduler.set_timesteps(10)
    scheduler.set_sigmas(10)
    g = torch.Generator().manual_seed(9)
    x, z = (torch.randn(2, *SHAPE, generator=g) for _ in range(2))
    x = x * torch.tensor([1.0, 10.0])[:, None, None, None]  # the second score is ten times as long

    def of_diffusers(count: int) -> Tensor:
        replaced = "diffusers.schedulers.scheduling_sde_ve.randn_tensor"
        monkeypatch.setattr(replaced, lambda *_, **__: z[:count])
        return scheduler.step_correct(-x[:count], x[:count]).prev_sample  # score of N(0, 1)

    def own(count: int) -> Tensor:
        step = 4 * (snr * float(z[0].norm() / x[0].norm())) ** 2
        return langevin(lambda x, _: -x, x[:count], [1.0], lambda *_: z[:count], 1, step)

    torch.testing.assert_close(own(1), of_diffusers(1))
    torch.testing.assert_close(own(2)[:1], own(1))
    assert (of_diffusers(2)[:1] - of_diffusers(1)).abs().max() > 0.01


@pytest.mark.parametrize("name", [*fit(PRESERVING)])
def test_a_network_that_knows_the_image_ends_at_it(name: str) -> None:
    x0 = torch.full((1, *SHAPE), 0.3)

    def predict(x_t: Tensor, index: int) -> Estimates:
        alpha, sigma = float(PRESERVING.alpha[index]), float(PRESERVING.sigma[index])
        return Estimates(x0, (x_t - alpha * x0) / sigma)

    x_t, path = torch.randn(1, *SHAPE), path_of(PRESERVING, 7)
    out = list(
        SAMPLERS[name].solve(PRESERVING, predict, x_t, path, lambda _: torch.ones_like(x_t))
    )[-1]
    torch.testing.assert_close(out, x0, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "heun"])
def test_an_image_depends_on_its_number_alone(name: str) -> None:
    model = denoiser()
    numbers = [5, 0, 3]

    def generated(order: list[int], batch: int) -> dict[int, Tensor]:
        batches = sample(
            model, [""] * 3, order, scale=1.0, steps=6, sampler=name, batch_size=batch, seed=2
        )
        images = torch.cat([b.images for b in batches])
        return dict(zip(order, images, strict=True))

    one, other = generated(numbers, 4), generated(numbers[::-1], 2)
    for number in numbers:
        torch.testing.assert_close(one[number], other[number], atol=1e-6, rtol=0)
    assert not torch.allclose(one[0], one[3])


def test_the_trajectory_ends_at_the_image() -> None:
    (batch,) = sample(denoiser(), [""], [0], scale=1.0, steps=5, trajectory=True, batch_size=1)
    assert len(batch.trajectory) == 5
    assert torch.equal(batch.trajectory[-1], batch.images)
    (plain,) = sample(denoiser(), [""], [0], scale=1.0, steps=5, batch_size=1)
    assert plain.trajectory == ()
    assert torch.equal(plain.images, batch.images)


@pytest.mark.parametrize("schedule", [PRESERVING, FLOW])
def test_inversion_and_sampling_reproduce_the_image(schedule: NoiseSchedule) -> None:
    model = denoiser(schedule)
    predict = predict_of(model, 6)
    x0 = MEAN + SPREAD * torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(6))
    start = float(schedule.alpha[0]) * x0
    down = path_of(schedule, 800)
    noise = follow(schedule, predict, start, down[::-1])
    # inverted, images of the distribution are noise of the distribution
    assert float(noise.std()) == pytest.approx(float(schedule.sigma[-1]), rel=0.15)
    back = follow(schedule, predict, noise, down)
    torch.testing.assert_close(back, start, atol=0.02, rtol=0)


def test_interpolation_of_noises_stays_on_the_sphere() -> None:
    g = torch.Generator().manual_seed(7)
    one, other = torch.randn(2, 5, 8, 32, 32, generator=g)
    assert torch.allclose(slerp(one, other, 0.0), one, atol=1e-4)
    assert torch.allclose(slerp(one, other, 1.0), other, atol=1e-4)
    middle = slerp(one, other, 0.5)
    # a straight line would lose √2 of the length there
    assert float(middle.std()) == pytest.approx(1.0, rel=0.02)
    assert torch.allclose(slerp(one, one, 0.3), one, atol=1e-5)


def test_steps_spread_from_the_last_level_to_the_first() -> None:
    path = path_of(PRESERVING, 5)
    assert path.tolist() == [999, 749, 500, 250, 0]
    assert path_of(PRESERVING, 1).tolist() == [999]
    for steps in (0, 1001):
        with pytest.raises(UsageError, match="steps out of range"):
            path_of(PRESERVING, steps)


@pytest.mark.parametrize(
    ("name", "schedule", "message"),
    [
        ("dpm", PRESERVING, "did you mean"),
        ("ddim", FLOW, "does not fit.*flow"),
        ("flow-euler", PRESERVING, "does not fit.*variance-preserving"),
    ],
)
def test_a_sampler_that_is_unknown_or_does_not_fit_is_refused(name, schedule, message) -> None:
    with pytest.raises(UsageError, match=message):
        find(name, schedule)


def test_zero_terminal_snr_is_refused_by_samplers_that_divide_by_the_signal() -> None:
    schedule = NoiseSchedule.scaled_linear(rescale_zero_snr=True)
    model = GaussianDenoiser({"": MEAN}, SPREAD, schedule, "v_prediction")
    with pytest.raises(UsageError, match="zero terminal SNR"):
        solved("heun", model, torch.randn(1, *SHAPE), 5)
