"""Images from prompts: classifier-free guidance and a fast solver, for any denoiser.

One generator a sample: an image depends on its seed and its own number, on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from diffcls.denoiser import Conditioning, Denoiser
from diffcls.draws import key
from diffcls.errors import UsageError

Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(x_t, schedule index) -> the estimates of x0 and noise."""


def guided(denoiser: Denoiser, cond: Conditioning, empty: Conditioning, scale: float) -> Predict:
    """Classifier-free guidance (Ho and Salimans 2022, eq. 6): ε̃ = ε(∅) + w·(ε(c) − ε(∅)).

    Args:
        denoiser: the model.
        cond: (B, ...) the prompts' conditioning.
        empty: the empty prompt's, one row.
        scale: w; 1 is no guidance, and costs half.
    """
    schedule, row = denoiser.schedule, denoiser.parameterization

    def predict(x_t: Tensor, index: int) -> tuple[Tensor, Tensor]:
        alpha, sigma = float(schedule.alpha[index]), float(schedule.sigma[index])
        count = len(x_t)
        if scale == 1.0:
            both, rows = x_t, cond
        else:
            both = torch.cat([x_t, x_t])
            first = torch.zeros(count, dtype=torch.long, device=x_t.device)
            rows = Conditioning.concatenate([empty.rows(first), cond])
        steps = torch.full((len(both),), index, device=both.device)
        out = denoiser.predict(both.to(denoiser.dtype), steps, rows).float()
        a, b = torch.tensor(alpha), torch.tensor(sigma)
        if scale != 1.0:  # ε is linear in the output: guiding this is guiding that
            out = out[:count] + scale * (out[count:] - out[:count])
        return row.to_x0(out, x_t, a, b), row.to_noise(out, x_t, a, b)

    return predict


def solve(denoiser: Denoiser, predict: Predict, x_t: Tensor, steps: int) -> Tensor:
    """From noise to x0 by DPM-Solver++(2M) (Lu et al. 2022, algorithm 2).

        x_s = σ_s/σ_t·x_t − α_s·(e^{−h} − 1)·D,    h = λ_s − λ_t,    λ = log(α/σ)
        D = x0 + (x0 − x0′)·h/(2h′)                with x0′, h′ of the step before

    Args:
        denoiser: for its schedule.
        predict: see `guided`.
        x_t: (B, C, h, w) noise of the last level of the schedule.
        steps: forwards, 1 or more.

    Returns:
        x0 (B, C, h, w): the last step's estimate.
    """
    if steps < 1:
        raise UsageError("steps out of range", given=steps, allowed="1 or more")
    alpha, sigma = denoiser.schedule.alpha, denoiser.schedule.sigma
    # (steps,) indices, evenly spread, from the last level down to the first: what is left there
    # is the least noise that the model knows, and the jump to x0 loses next to nothing
    path = np.rint(np.linspace(len(alpha) - 1, 0, steps)).astype(int)
    with np.errstate(divide="ignore"):  # −∞ where the last level holds no signal
        log_snr = np.log(alpha[path] / sigma[path])
    before, h_before = None, 0.0
    x0 = x_t
    for i, t in enumerate(path):
        x0, _ = predict(x_t, int(t))
        if i + 1 == steps:
            break
        s, h = path[i + 1], float(log_snr[i + 1] - log_snr[i])
        d = x0 if before is None else x0 + (x0 - before) * (h / (2 * h_before))
        x_t = float(sigma[s] / sigma[t]) * x_t - float(alpha[s] * np.expm1(-h)) * d
        before, h_before = x0, h
    return x0


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
) -> Iterator[Tensor]:
    """One image a prompt, batch by batch.

    Args:
        denoiser: the model.
        prompts: (N,) texts.
        numbers: (N,) number of each image; with the seed it keys the image's noise.
        seed: of all images.
        scale: of classifier-free guidance.
        steps: forwards an image, twice as many with guidance.
        batch_size: images of a batch; every batch is filled up to it.

    Yields:
        (B, 3, H, W) images in [−1, 1], in order.
    """
    empty = denoiser.encode_prompts([""])
    unique = sorted(set(prompts))
    cond, place = denoiser.encode_prompts(unique), {text: i for i, text in enumerate(unique)}
    for start in range(0, len(prompts), batch_size):
        chosen = range(start, min(start + batch_size, len(prompts)))
        filled = [*chosen, *[chosen[-1]] * (batch_size - len(chosen))]
        at = torch.tensor([place[prompts[i]] for i in filled], device=denoiser.device)
        rows = cond.rows(at)
        noise = torch.stack([_noise(seed, numbers[i], denoiser.sample_shape) for i in filled])
        # at the last level of the schedule x_t is noise of its sigma, all but a trace
        x_t = noise.to(denoiser.device) * float(denoiser.schedule.sigma[-1])
        x0 = solve(denoiser, guided(denoiser, rows, empty, scale), x_t, steps)
        yield denoiser.decode_latents(x0)[: len(chosen)].clamp(-1, 1).cpu()


def _noise(seed: int, number: int, shape: Sequence[int]) -> Tensor:
    rng = torch.Generator("cpu").manual_seed(key("sample", seed, number))
    return torch.randn(tuple(shape), generator=rng)
