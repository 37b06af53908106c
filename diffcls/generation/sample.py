"""Sampling: images from prompts, with any sampler and guidance, for any denoiser.

Each image has its own random generator, so it depends on the seed and its number alone, not on the
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcls.generation import samplers
from diffcls.generation.guidance import guided
from diffcls.generation.samplers import Sampler
from diffcls.generation.solvers import Predict
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.support.seeding import key

BatchGuidance = Callable[[Predict, Sequence[int]], Predict]
"""(predict, (B,) positions of a batch's images among all) -> predict with further guidance."""


@dataclass(frozen=True)
class Batch:
    """A batch of generated images.

    Args:
        images: (B, 3, H, W) in [−1, 1], on the CPU.
        trajectory: estimates of x0 after each step, decoded: each (B, 3, H, W); empty unless
            requested.
    """

    images: Tensor
    trajectory: tuple[Tensor, ...] = ()


def sample(
    denoiser: Denoiser,
    prompts: Sequence[str],
    numbers: Sequence[int],
    *,
    seed: int = 0,
    scale: float = 2.0,
    steps: int = 16,
    batch_size: int = 64,
    sampler: str = "dpm++",
    guidance: BatchGuidance | None = None,
    trajectory: bool = False,
    starts: Iterable[int] | None = None,
    maps: Tensor | None = None,
) -> Iterator[Batch]:
    """One image per prompt, in batches.

    Args:
        denoiser: the model.
        prompts: (N,) texts.
        numbers: (N,) number of each image; with the seed it keys the image's noise.
        seed: seed of all images.
        scale: weight of classifier-free guidance.
        steps: number of sampling steps; guidance doubles the forward passes.
        batch_size: images per batch; the last batch is padded to it.
        sampler: a name in `diffcls.generation.samplers.SAMPLERS`.
        guidance: further guidance, see `diffcls.generation.guides.build_guidance`.
        trajectory: whether to return the estimates of x0 after each step.
        starts: positions of the first images of the batches to generate, multiples of
            `batch_size` in any order; None: all batches.
        maps: (M, ...) encoded maps, of a model with a ControlNet; image i has map i modulo M.

    Returns:
        Batches in order, each generated when the iterator reaches it.

    Raises:
        UsageError: for an unknown sampler, one that does not fit, or steps out of range.
    """
    solver = find_sampler(sampler, denoiser)
    path = samplers.path_of(denoiser.schedule, steps)
    # tensors made in inference mode cannot take part in a gradient
    mode = torch.inference_mode() if guidance is None else torch.no_grad()
    plan = _Plan(denoiser, prompts, numbers, seed, scale, batch_size, solver, path, guidance, maps)
    batches: Iterator[Batch] = mode(_batches)(plan, trajectory, starts)
    return batches


def find_sampler(name: str, denoiser: Denoiser) -> Sampler:
    """The sampler of a name, for this model.

    Raises:
        UsageError: see `diffcls.generation.samplers.find`.
    """
    return samplers.find(name, denoiser.schedule, denoiser.learns_variance)


@dataclass(frozen=True)
class _Plan:
    """The arguments of `sample`, with the sampler and its path."""

    denoiser: Denoiser
    prompts: Sequence[str]
    numbers: Sequence[int]
    seed: int
    scale: float
    batch_size: int
    sampler: Sampler
    path: NDArray[np.int64]
    guidance: BatchGuidance | None
    maps: Tensor | None = None


def _batches(plan: _Plan, trajectory: bool, starts: Iterable[int] | None) -> Iterator[Batch]:
    denoiser, prompts = plan.denoiser, plan.prompts
    unique = sorted(set(prompts))
    # in one call with the empty prompt, last: encodings of one length
    guides = [""] if plan.scale != 1.0 else []
    cond, place = denoiser.encode_prompts([*unique, *guides]), {t: i for i, t in enumerate(unique)}
    empty = Conditioning({k: rows[-1:] for k, rows in cond.items()}) if guides else None
    for start in range(0, len(prompts), plan.batch_size) if starts is None else starts:
        chosen = range(start, min(start + plan.batch_size, len(prompts)))
        filled = [*chosen, *[chosen[-1]] * (plan.batch_size - len(chosen))]
        at = torch.tensor([place[prompts[i]] for i in filled], device=denoiser.device)
        rows = cond.rows(at)
        nothing = rows if empty is None else empty
        own = None if plan.maps is None else plan.maps[[i % len(plan.maps) for i in filled]]
        predict = guided(denoiser, rows, nothing, plan.scale, plan.sampler.learned, own)
        if plan.guidance is not None:
            predict = plan.guidance(predict, filled)
        estimates: list[Tensor] = []
        for x0 in _solved(plan, predict, [plan.numbers[i] for i in filled]):
            estimates = [*estimates, x0] if trajectory else [x0]
        decoded = [
            denoiser.decode_latents(x0)[: len(chosen)].clamp(-1, 1).cpu() for x0 in estimates
        ]
        yield Batch(decoded[-1], tuple(decoded) if trajectory else ())


def _solved(plan: _Plan, predict: Predict, numbers: list[int]) -> Iterator[Tensor]:
    """Estimates of x0 after each step, of the images with these numbers."""
    schedule = plan.denoiser.schedule
    # at the last level of the schedule, x_t is almost pure noise of its sigma
    x_t = noise_of(plan.denoiser, plan.seed, numbers) * float(schedule.sigma[-1])

    def draw(step: int) -> Tensor:
        return noise_of(plan.denoiser, plan.seed, numbers, step)

    return plan.sampler.solve(schedule, predict, x_t, plan.path, draw)


def noise_of(
    denoiser: Denoiser, seed: int, numbers: Sequence[int], step: int | None = None
) -> Tensor:
    """(B, C, h, w) noise of images, on the denoiser's device.

    Args:
        denoiser: the model, which determines the shape.
        seed: seed of all images.
        numbers: (B,) number of each image.
        step: number of the step at which a sampler adds noise; None for the initial noise.
    """
    parts = () if step is None else (step,)
    noises = [
        torch.randn(
            denoiser.sample_shape,
            generator=torch.Generator("cpu").manual_seed(key("sample", seed, number, *parts)),
        )
        for number in numbers
    ]
    return torch.stack(noises).to(denoiser.device)
