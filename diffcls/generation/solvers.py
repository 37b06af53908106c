"""Solvers from noise to an image, on any noise schedule; most of them are those of diffusers.

A solver follows a path, a few levels of the model's noise schedule. diffusers' schedulers receive
exactly these levels, so one of their steps is one step of the path, whatever the schedule and the
number of steps. Two solvers are implemented here, since those of diffusers make an image depend on
its batch: ancestral sampling, where diffusers takes the noise of all images from one generator, and
Langevin dynamics, where it also derives the step size from the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffcls.diffusion.process import (
    Step,
    chain,
    is_flow,
    langevin,
    learned_variance,
    reverse_variances,
    to_score,
)
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.support.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

MAX_SIGMA = 2.0**12
"""Largest σ/α given to diffusers; its own limit for schedules rescaled to zero terminal SNR."""


class Estimates(NamedTuple):
    """Estimates of a network at x_t.

    Args:
        x0, noise: like x_t; x_t = α_t·x0 + σ_t·noise.
        mixture: like x_t: v of a learned variance, see
            `diffcls.diffusion.process.learned_variance`; None unless requested.
    """

    x0: Tensor
    noise: Tensor
    mixture: Tensor | None = None


Predict = Callable[["Tensor", int], Estimates]
"""(x_t, schedule index) -> the estimates."""
Draw = Callable[[int], "Tensor"]
"""(step) -> standard normal noise like x_t, for solvers that add noise."""
Solve = Callable[[NoiseSchedule, Predict, "Tensor", NDArray[np.int64], Draw], Iterator["Tensor"]]
"""(schedule, predict, x_t, path, draw) -> the estimate of x0 after each step; the last is final."""


def ancestral(variance: str | NDArray[np.float64]) -> Solve:
    """Ancestral sampling of DDPM (Ho et al. 2020, algorithm 2) along any path of levels.

        x_s = E[x_s | x_t, x0] + √variance·z

    Args:
        variance: variance of the reverse step: "small" or "large" (see
            `diffcls.diffusion.process.reverse_variances`) or "learned" (see
            `diffcls.diffusion.process.learned_variance`); with these, the last step returns the
            estimate of x0 without noise. Or an array (n,) of variances for n steps, that of the
            step to the clean image first; this step then adds noise like the others.
    """

    def solve(
        schedule: NoiseSchedule, predict: Predict, x: Tensor, path: NDArray[np.int64], draw: Draw
    ) -> Iterator[Tensor]:
        steps = chain(schedule, path[::-1])
        variance_of = _variances(steps, variance)
        for number, t in enumerate(path):
            x0, _, mixture = predict(x, int(t))
            place = len(path) - 1 - number
            if place == 0 and isinstance(variance, str):
                yield x0
                return
            one = steps.rows(place)
            mean = float(one.of_x0) * x0 + float(one.of_x_t) * x
            x = mean + variance_of(place, mixture) ** 0.5 * draw(number)
            yield x0 if place else x

    return solve


def _variances(
    steps: Step, variance: str | NDArray[np.float64]
) -> Callable[[int, Tensor | None], Any]:
    """(position of a step, mixture) -> its variance: a number, or like x_t if learned."""
    if not isinstance(variance, str):
        return lambda place, _: float(variance[place])
    if variance != "learned":
        fixed = reverse_variances(steps, variance)
        return lambda place, _: float(fixed[place])
    small, large = (reverse_variances(steps, kind) for kind in ("small", "large"))
    return lambda place, v: learned_variance(v, float(small[place]), float(large[place]))


def annealed(steps_per_level: int, rate: float) -> Solve:
    """Annealed Langevin dynamics, level by level, see `diffcls.diffusion.process.langevin`.

    It works on x = x_t/α_t, which is x0 with noise of σ = σ_t/α_t added; the score there is −ε̂/σ.
    The result is the estimate of x0 at the last level, which removes the remaining noise
    (Jolicoeur-Martineau et al. 2021, section 3.1).

    Args:
        steps_per_level: steps at each level.
        rate: step size a = rate·σ².
    """

    def solve(
        schedule: NoiseSchedule, predict: Predict, x: Tensor, path: NDArray[np.int64], draw: Draw
    ) -> Iterator[Tensor]:
        _check_signal(schedule, path, "langevin")
        alpha, sigma = (v.tolist() for v in (schedule.alpha[path], schedule.sigma[path]))
        x = x / alpha[0]
        for number, (t, a, s) in enumerate(zip(path.tolist(), alpha, sigma, strict=True)):
            latest: list[Tensor] = []

            def score(
                x: Tensor, s: float, t: int = t, a: float = a, latest: Any = latest
            ) -> Tensor:
                x0, noise, _ = predict(a * x, t)
                latest[:] = [x0]
                value: Tensor = to_score(noise, s)
                return value

            def noise_at(_: int, step: int, first: int = number * steps_per_level) -> Tensor:
                return draw(first + step)

            x = langevin(score, x, [s / a], noise_at, steps_per_level, rate * (s / a) ** 2)
            yield latest[0]
        yield predict(alpha[-1] * x, int(path[-1])).x0

    return solve


def _check_signal(schedule: NoiseSchedule, path: NDArray[np.int64], sampler: str) -> None:
    if schedule.alpha[path[0]] == 0:
        raise UsageError(
            "--sampler does not support a model with zero terminal SNR",
            given=sampler,
            allowed="dpm++, ddpm or ddpm-small",
        )


def dpm_solver(
    schedule: NoiseSchedule, predict: Predict, x: Tensor, path: NDArray[np.int64], draw: Draw
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) by diffusers, for any schedule.

        x_s = σ_s/σ_t·x_t − α_s·(e^{−h} − 1)·D,    h = λ_s − λ_t,    λ = log(α/σ)
        D = x0 + (x0 − x0′)·h/(2h′)                with x0′, h′ of the previous step

    The scheduler receives x0 and the levels of the path: σ/α, or σ for a flow. Where the last
    level holds no signal, σ/α is limited to `MAX_SIGMA`, as diffusers does.
    """
    flow = is_flow(schedule)
    alpha, sigma = schedule.alpha[path], schedule.sigma[path]
    levels = sigma if flow else sigma / np.maximum(alpha, sigma / MAX_SIGMA)
    scheduler = multistep_scheduler(levels.tolist(), flow)
    for t, timestep in zip(path, scheduler.timesteps, strict=True):
        x0 = predict(x, int(t)).x0
        yield x0
        x = scheduler.step(x0, timestep, x).prev_sample


def multistep_scheduler(levels: Sequence[float], flow: bool) -> Any:
    """The multistep solver of diffusers on given levels: σ/α falling, or σ of a flow."""
    import torch
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=len(levels),
        prediction_type="sample",
        use_flow_sigmas=flow,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(len(levels))
    # set_timesteps derives levels from a beta schedule, or its own grid of a flow
    scheduler.sigmas = torch.tensor([*levels, 0.0])
    scheduler.set_begin_index(0)
    return scheduler


def from_diffusers(name: str, exploding: bool = False, **config: Any) -> Solve:
    """A scheduler of diffusers on the levels of the path.

    Args:
        name: class of the scheduler.
        exploding: whether it works on x_t/α, the variance-exploding form.
        config: its further settings.
    """

    def solve(
        schedule: NoiseSchedule, predict: Predict, x: Tensor, path: NDArray[np.int64], draw: Draw
    ) -> Iterator[Tensor]:
        import diffusers

        rising = path[::-1]
        _check_signal(schedule, path, name)
        scheduler = getattr(diffusers, name)(
            num_train_timesteps=len(path),
            trained_betas=chain(schedule, rising).variance,
            prediction_type="epsilon",
            **config,
        )
        scheduler.set_timesteps(len(path))
        if exploding:
            x = x / float(schedule.alpha[rising[-1]])
        for t in scheduler.timesteps:
            x0, noise, _ = predict(scheduler.scale_model_input(x, t), int(rising[int(t)]))
            yield x0
            x = scheduler.step(noise, t, x).prev_sample
        yield x

    return solve


def flow_euler(
    schedule: NoiseSchedule, predict: Predict, x: Tensor, path: NDArray[np.int64], draw: Draw
) -> Iterator[Tensor]:
    """Euler's method on dx/dσ = ε − x0 (Lipman et al. 2023; Liu et al. 2023), by diffusers."""
    import diffusers

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=schedule.sigma[path].tolist())
    for level, t in zip(path, scheduler.timesteps, strict=True):
        x0, noise, _ = predict(x, int(level))
        yield x0
        x = scheduler.step(noise - x0, t, x).prev_sample
    yield x
