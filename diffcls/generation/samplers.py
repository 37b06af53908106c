"""Samplers by name: one row of a table per solver, with its source, cost and the models it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffcls.diffusion.process import is_flow
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.generation.solvers import (
    Solve,
    ancestral,
    annealed,
    dpm_solver,
    flow_euler,
    from_diffusers,
)
from diffcls.support.errors import UsageError, unknown_name

DEFAULT = "dpm++"


@dataclass(frozen=True)
class Sampler:
    """A solver, and the kind of model that it can sample from.

    Args:
        solve: the solver, see `diffcls.generation.solvers.Solve`; noise decreases along its path.
        description: method and source.
        forwards: number of steps -> number of forward passes of the network, without guidance.
        flow: True for rectified flows, False for variance-preserving schedules, None for both.
        learned: whether it needs a network that predicts the variance of the reverse step.
    """

    solve: Solve
    description: str
    forwards: Callable[[int], int] = field(default=lambda steps: steps)
    flow: bool | None = False
    learned: bool = False


SAMPLERS: dict[str, Sampler] = {
    "dpm++": Sampler(dpm_solver, "DPM-Solver++(2M), Lu et al. 2022", flow=None),
    "ddim": Sampler(
        from_diffusers("DDIMScheduler", clip_sample=False),
        "DDIM without noise, Song et al. 2021",
    ),
    "euler": Sampler(
        from_diffusers("EulerDiscreteScheduler", exploding=True), "Euler, Karras et al. 2022"
    ),
    "heun": Sampler(
        from_diffusers("HeunDiscreteScheduler", exploding=True),
        "Heun, Karras et al. 2022, algorithm 1; two forward passes per step",
        forwards=lambda steps: 2 * steps - 1,
    ),
    "langevin": Sampler(
        annealed(steps_per_level=5, rate=1.0),
        "annealed Langevin dynamics, Song and Ermon 2019; five forward passes per step, and one",
        forwards=lambda steps: 5 * steps + 1,
        flow=None,
    ),
    "flow-euler": Sampler(flow_euler, "Euler on a rectified flow, Liu et al. 2023", flow=True),
    "ddpm": Sampler(ancestral("large"), "ancestral, variance β_t, Ho et al. 2020", flow=None),
    "ddpm-learned": Sampler(
        ancestral("learned"),
        "ancestral, learned variance, Nichol and Dhariwal 2021",
        flow=None,
        learned=True,
    ),
    "ddpm-small": Sampler(ancestral("small"), "ancestral, variance β̃_t, Ho et al. 2020", flow=None),
}


def check_name(name: str) -> None:
    """Raise UsageError for a sampler that is not in `SAMPLERS`."""
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)


def find(name: str, schedule: NoiseSchedule, learned: bool = False) -> Sampler:
    """Find a sampler by its name.

    Args:
        name: a key of `SAMPLERS`.
        schedule: noise schedule of the model.
        learned: whether the network predicts the variance of the reverse step.

    Raises:
        UsageError: for an unknown name, or a sampler that does not fit such a model.
    """
    check_name(name)
    sampler = SAMPLERS[name]
    if sampler.flow is not None and sampler.flow != is_flow(schedule):
        allowed = [k for k, v in SAMPLERS.items() if v.flow is None or v.flow != sampler.flow]
        kind = "a rectified flow" if is_flow(schedule) else "variance-preserving"
        raise UsageError(
            f"--sampler does not fit the model, whose schedule is {kind}", name, allowed
        )
    if sampler.learned and not learned:
        raise UsageError(
            "--sampler needs a model with a learned variance", name, "ddpm or ddpm-small"
        )
    return sampler


def path_of(schedule: NoiseSchedule, steps: int) -> NDArray[np.int64]:
    """(steps,) schedule indices, evenly spread and falling, from the last one to the first.

    The first index has the least noise that the model was trained on; from there, the estimate of
    x0 is the result.

    Raises:
        UsageError: for fewer than one step, or more than the schedule has levels.
    """
    length = len(schedule)
    if not 1 <= steps <= length:
        raise UsageError("--steps out of range", given=steps, allowed=f"1 to {length}")
    return np.rint(np.linspace(length - 1, 0, steps)).astype(np.int64)
