"""From noise to an image: a row of a table for each solver, most of them diffusers' own.

All of them go down one path, a few levels of the model's schedule. diffusers' schedulers are given
just these levels, as a chain of their own with nothing between, so that a step of theirs is a step
of the path, whatever the schedule was and however many steps it is taken in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
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
from diffcls.support.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor


class Estimates(NamedTuple):
    """What a network says of x_t.

    Args:
        x0, noise: like x_t; x_t = α_t·x0 + σ_t·noise.
        mixture: like x_t: v of a learned variance, see
            `diffcls.diffusion.process.learned_variance`; None where it was not asked for.
    """

    x0: Tensor
    noise: Tensor
    mixture: Tensor | None = None


Predict = Callable[["Tensor", int], Estimates]
"""(x_t, schedule index) -> the estimates."""
Draw = Callable[[int], "Tensor"]
"""(step) -> noise like x_t, for samplers that add some."""
Solve = Callable[[NoiseSchedule, Predict, "Tensor", NDArray[np.int64], Draw], Iterator["Tensor"]]
"""(schedule, predict, x_t, path, draw) -> the estimate of x0 at each step, the last being final."""


@dataclass(frozen=True)
class Sampler:
    """One way from noise to an image.

    Args:
        solve: see `Solve`; `path` are the levels, falling.
        says: what it is, with its source.
        forwards: of the network, of so many steps.
        flow: whether it solves flows, schedules that preserve variance, or (None) both.
        learned: whether it needs a network that has learned the variance of its steps.
    """

    solve: Solve
    says: str
    forwards: Callable[[int], int] = field(default=lambda steps: steps)
    flow: bool | None = False
    learned: bool = False


def path_of(schedule: NoiseSchedule, steps: int) -> NDArray[np.int64]:
    """(steps,) levels, evenly spread and falling, from the last one to the first.

    What is left at the first is the least noise that the model knows, and the jump from there to x0
    loses next to nothing.

    Raises:
        UsageError: for no steps, or more than there are levels.
    """
    length = len(schedule)
    if not 1 <= steps <= length:
        raise UsageError("steps out of range", given=steps, allowed=f"1 to {length}")
    return np.rint(np.linspace(length - 1, 0, steps)).astype(np.int64)


def find(name: str, schedule: NoiseSchedule, learned: bool = False) -> Sampler:
    """The sampler of that name.

    Args:
        name: in `SAMPLERS`.
        schedule: of the model.
        learned: whether the model has learned the variance of its steps.

    Raises:
        UsageError: for an unknown one, or one that does not solve such a schedule or model.
    """
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    found = SAMPLERS[name]
    if found.flow is not None and found.flow != is_flow(schedule):
        fit = [k for k, v in SAMPLERS.items() if v.flow is None or v.flow != found.flow]
        kind = "flow" if is_flow(schedule) else "preserves variance"
        raise UsageError(f"the sampler does not fit a model whose schedule is: {kind}", name, fit)
    if found.learned and not learned:
        what = "the model has learned no variance"
        raise UsageError(what, given=name, allowed="ddpm or ddpm-small")
    return found


def ancestral(variance: str | NDArray[np.float64]) -> Solve:
    """Ancestral sampling of DDPM (Ho et al. 2020, algorithm 2), over any path.

    Args:
        variance: of the reverse step, see `diffcls.diffusion.process.reverse_variances`, or
            ``learned`` (see `diffcls.diffusion.process.learned_variance`); with either the last
            step ends at the estimate of x0 itself. Or (n,) of the n steps, the first being the one
            to the clean image, which then has noise as all others have.
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
    """(place of a step, mixture) -> its variance: a number, or like x_t where it was learned."""
    if not isinstance(variance, str):
        return lambda place, _: float(variance[place])
    if variance != "learned":
        fixed = reverse_variances(steps, variance)
        return lambda place, _: float(fixed[place])
    small, large = (reverse_variances(steps, kind) for kind in ("small", "large"))
    return lambda place, v: learned_variance(v, float(small[place]), float(large[place]))


def annealed(each: int, rate: float) -> Solve:
    """Annealed Langevin dynamics, level after level, see `diffcls.diffusion.process.langevin`.

    It walks on x = x_t/α_t, which is x0 with noise of σ = σ_t/α_t added; the score there is −ε̂/σ.
    The last walk's end still has the least noise, and the estimate of x0 there is the image
    (Jolicoeur-Martineau et al. 2021, section 3.1).

    Args:
        each: steps of a level.
        rate: of a step, a = rate·σ².
    """

    def solve(
        schedule: NoiseSchedule, predict: Predict, x: Tensor, path: NDArray[np.int64], draw: Draw
    ) -> Iterator[Tensor]:
        _need_signal(schedule, path, "langevin")
        alpha, sigma = (v.tolist() for v in (schedule.alpha[path], schedule.sigma[path]))
        x = x / alpha[0]
        for number, (t, a, s) in enumerate(zip(path.tolist(), alpha, sigma, strict=True)):
            found: list[Tensor] = []

            def score(x: Tensor, s: float, t: int = t, a: float = a, found: Any = found) -> Tensor:
                x0, noise, _ = predict(a * x, t)
                found[:] = [x0]
                walked: Tensor = to_score(noise, s)
                return walked

            def drawn(_: int, step: int, first: int = number * each) -> Tensor:
                return draw(first + step)

            x = langevin(score, x, [s / a], drawn, each, rate * (s / a) ** 2)
            yield found[0]
        yield predict(alpha[-1] * x, int(path[-1])).x0

    return solve


def _need_signal(schedule: NoiseSchedule, path: NDArray[np.int64], sampler: str) -> None:
    if schedule.alpha[path[0]] == 0:
        raise UsageError(
            "the model's last level holds no signal, which this sampler divides by",
            given=sampler,
            allowed="dpm++, ddpm or ddpm-small",
        )


def multistep(
    schedule: NoiseSchedule, predict: Predict, x_t: Tensor, path: NDArray[np.int64], draw: Draw
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), of any schedule, flows included.

        x_s = σ_s/σ_t·x_t − α_s·(e^{−h} − 1)·D,    h = λ_s − λ_t,    λ = log(α/σ)
        D = x0 + (x0 − x0′)·h/(2h′)                with x0′, h′ of the step before

    diffusers' own is given a beta schedule; this one, in double precision, needs none.
    """
    alpha, sigma = schedule.alpha, schedule.sigma
    with np.errstate(divide="ignore"):  # −∞ where the last level holds no signal
        log_snr = np.log(alpha[path] / sigma[path])
    before, h_before = None, 0.0
    for i, t in enumerate(path):
        x0 = predict(x_t, int(t)).x0
        yield x0
        if i + 1 == len(path):
            return
        s, h = path[i + 1], float(log_snr[i + 1] - log_snr[i])
        d = x0 if before is None else x0 + (x0 - before) * (h / (2 * h_before))
        x_t = float(sigma[s] / sigma[t]) * x_t - float(alpha[s] * np.expm1(-h)) * d
        before, h_before = x0, h


def of_diffusers(name: str, exploding: bool = False, **config: Any) -> Solve:
    """A scheduler of diffusers on the levels of the path.

    Args:
        name: of its class.
        exploding: whether it works on x_t/α, whose variance grows without bound.
        config: of the scheduler, beside its levels.
    """

    def solve(
        schedule: NoiseSchedule, predict: Predict, x: Tensor, path: NDArray[np.int64], draw: Draw
    ) -> Iterator[Tensor]:
        import diffusers

        rising = path[::-1]
        _need_signal(schedule, path, name)
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


def _flow_euler(
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


SAMPLERS: dict[str, Sampler] = {
    "dpm++": Sampler(multistep, "DPM-Solver++(2M), Lu et al. 2022", flow=None),
    "ddim": Sampler(
        of_diffusers("DDIMScheduler", clip_sample=False), "DDIM without noise, Song et al. 2021"
    ),
    "euler": Sampler(
        of_diffusers("EulerDiscreteScheduler", exploding=True), "Euler, Karras et al. 2022"
    ),
    "heun": Sampler(
        of_diffusers("HeunDiscreteScheduler", exploding=True),
        "Heun, Karras et al. 2022, algorithm 1; two forwards a step",
        forwards=lambda steps: 2 * steps - 1,
    ),
    "langevin": Sampler(
        annealed(each=5, rate=1.0),
        "annealed Langevin dynamics, Song and Ermon 2019; five forwards a step, and one",
        forwards=lambda steps: 5 * steps + 1,
        flow=None,
    ),
    "flow-euler": Sampler(_flow_euler, "Euler on a rectified flow, Liu et al. 2023", flow=True),
    "ddpm": Sampler(ancestral("large"), "ancestral, variance β_t, Ho et al. 2020", flow=None),
    "ddpm-learned": Sampler(
        ancestral("learned"),
        "ancestral, the variance that was learned, Nichol and Dhariwal 2021",
        flow=None,
        learned=True,
    ),
    "ddpm-small": Sampler(ancestral("small"), "ancestral, variance β̃_t, Ho et al. 2020", flow=None),
}


def move(schedule: NoiseSchedule, predict: Predict, x: Tensor, path: NDArray[np.int64]) -> Tensor:
    """Along the deterministic path of DDIM, up or down (Song et al. 2021, eq. 13; inversion).

        x_s = α_s·x0(x_t) + σ_s·ε(x_t)

    Args:
        schedule: of the model.
        predict: see `Predict`.
        x: (B, C, h, w) at the first level of the path.
        path: levels; rising ones lead from an image to its noise.

    Returns:
        x at the last level of the path.
    """
    for t, s in pairwise(path):
        x0, noise, _ = predict(x, int(t))
        x = float(schedule.alpha[s]) * x0 + float(schedule.sigma[s]) * noise
    return x


def slerp(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Between two noises along the sphere, image by image: (B, …), `share` in [0, 1] of the other.

    sin((1−f)·θ)/sin θ·z + sin(f·θ)/sin θ·z′, θ the angle between them (Shoemake 1985)
    """
    import torch

    shape = (-1, *[1] * (one.ndim - 1))
    cosine = torch.nn.functional.cosine_similarity(one.flatten(1), other.flatten(1), dim=1)
    theta = torch.arccos(cosine.clamp(-1, 1)).reshape(shape)
    sine = torch.sin(theta)
    weights = torch.sin((1 - share) * theta) / sine, torch.sin(share * theta) / sine
    # of noises that point the same way the angle is nothing, and the line is the arc
    near = sine < 1e-4
    first = torch.where(near, torch.full_like(theta, 1 - share), weights[0])
    second = torch.where(near, torch.full_like(theta, share), weights[1])
    return first * one + second * other
