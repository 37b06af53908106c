"""Images from prompts, by any sampler and guidance, for any denoiser.

One generator a sample: an image depends on its seed and its own number, on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcls import samplers
from diffcls.denoiser import Denoiser
from diffcls.draws import key
from diffcls.guidance import guided
from diffcls.samplers import Predict

Lead = Callable[[Predict, Sequence[int]], Predict]
"""(predict, (B,) places of a batch's images among all) -> predict, led by something beside it."""


@dataclass(frozen=True)
class Batch:
    """A few finished images.

    Args:
        images: (B, 3, H, W) in [−1, 1], on the CPU.
        trajectory: estimates of x0 after each step, decoded: each (B, 3, H, W); empty unless
            asked for.
    """

    images: Tensor
    trajectory: tuple[Tensor, ...] = ()


@torch.inference_mode()
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
    lead: Lead | None = None,
    trajectory: bool = False,
) -> Iterator[Batch]:
    """One image a prompt, batch by batch.

    Args:
        denoiser: the model.
        prompts: (N,) texts.
        numbers: (N,) number of each image; with the seed it keys the image's noise.
        seed: of all images.
        scale: of classifier-free guidance.
        steps: of the sampler; with guidance each forward is two.
        batch_size: images of a batch; every batch is filled up to it.
        sampler: see `diffcls.samplers.SAMPLERS`.
        lead: a further guidance, see `Lead`.
        trajectory: whether the way to the images is kept.

    Yields:
        batches, in order.

    Raises:
        UsageError: for an unknown sampler, one that does not fit, or steps out of range.
    """
    solver = samplers.find(sampler, denoiser.schedule)
    path = samplers.path_of(denoiser.schedule, steps)
    empty = denoiser.encode_prompts([""]) if scale != 1.0 else None
    unique = sorted(set(prompts))
    cond, place = denoiser.encode_prompts(unique), {text: i for i, text in enumerate(unique)}
    for start in range(0, len(prompts), batch_size):
        chosen = range(start, min(start + batch_size, len(prompts)))
        filled = [*chosen, *[chosen[-1]] * (batch_size - len(chosen))]
        at = torch.tensor([place[prompts[i]] for i in filled], device=denoiser.device)
        rows = cond.rows(at)
        predict = guided(denoiser, rows, rows if empty is None else empty, scale)
        if lead is not None:
            predict = lead(predict, filled)
        own = [numbers[i] for i in filled]
        # at the last level of the schedule x_t is noise of its sigma, all but a trace
        x_t = noise_of(denoiser, seed, own) * float(denoiser.schedule.sigma[-1])

        def draw(step: int, own: list[int] = own) -> Tensor:
            return noise_of(denoiser, seed, own, step)

        estimates: list[Tensor] = []
        for x0 in solver.solve(denoiser.schedule, predict, x_t, path, draw):
            estimates = [*estimates, x0] if trajectory else [x0]
        decoded = [
            denoiser.decode_latents(x0)[: len(chosen)].clamp(-1, 1).cpu() for x0 in estimates
        ]
        yield Batch(decoded[-1], tuple(decoded) if trajectory else ())


def noise_of(
    denoiser: Denoiser, seed: int, numbers: Sequence[int], step: int | None = None
) -> Tensor:
    """(B, C, h, w) noise of images, on the denoiser's device.

    Args:
        denoiser: for the shape.
        seed: of all images.
        numbers: (B,) of each image.
        step: of a sampler that adds noise; None: what sampling begins with.
    """
    parts = () if step is None else (step,)
    found = [
        torch.randn(
            denoiser.sample_shape,
            generator=torch.Generator("cpu").manual_seed(key("sample", seed, number, *parts)),
        )
        for number in numbers
    ]
    return torch.stack(found).to(denoiser.device)
