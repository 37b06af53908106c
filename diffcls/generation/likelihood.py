"""Monte Carlo estimate of the variational bound on −log p of images under a denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffcls.diffusion import bound
from diffcls.diffusion.bound import Decoder
from diffcls.diffusion.process import Step, chain, learned_variance, reverse_variances, to_tensor
from diffcls.models.denoiser import Conditioning, Denoiser
from diffcls.support.errors import UsageError
from diffcls.support.seeding import key
from diffcls.support.types import Float64

PRIOR, STEPS, DECODER, SIMPLE = range(4)
"""Columns of the result of `estimate`."""


@dataclass(frozen=True)
class Estimator:
    """Settings of the estimate of a bound.

    Args:
        decoder: see `diffcls.diffusion.bound`.
        variance: variance of the reverse step: "small", "large", "learned" (by the network), or
            an array (T,) with a number for each step.
        levels: timesteps per image, one sampled from each of as many parts of the chain.
        clip: whether estimates of x0 are clipped to [−1, 1], the range of pixels.
        seed: seed of timesteps and noise, together with the image's id.
        batch_size: rows of every forward pass.

    Raises:
        UsageError: for fewer than one level.
    """

    decoder: Decoder
    variance: str | Float64 = "large"
    levels: int = 20
    clip: bool = False
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise UsageError("levels out of range", given=self.levels, allowed="1 or more")


@torch.inference_mode()
def estimate(
    denoiser: Denoiser,
    x0: Tensor,
    image_ids: Sequence[str],
    cond: Conditioning,
    estimator: Estimator,
) -> Float64:
    """(n, 4): L_T, Σ L_{t−1}, L_0 of each image, in nats, and L_simple.

    L_simple is the mean of ‖ε − ε̂‖² over levels and dimensions (Ho et al. 2020, eq. 14).

    Args:
        denoiser: the model.
        x0: (n, C, h, w).
        image_ids: (n,) ids; with the seed they decide timesteps and noise.
        cond: one row for all images, or one per image.
        estimator: see `Estimator`.

    Raises:
        UsageError: for the variance "learned" of a network that did not learn it.
        RecordError: for an image whose bound is not finite.
    """
    steps = chain(denoiser.schedule)
    terms = np.zeros((len(x0), 4))
    alpha, sigma = denoiser.schedule.alpha[-1], denoiser.schedule.sigma[-1]
    terms[:, PRIOR] = bound.prior_term(x0, float(alpha), float(sigma)).cpu().numpy()
    evaluations = _evaluations(image_ids, len(denoiser.schedule), estimator)
    for start in range(0, len(evaluations), estimator.batch_size):
        part = evaluations[start : start + estimator.batch_size]
        # all batches have one shape, so an image's bound does not depend on the number of images
        filled = [*part, *[part[-1]] * (estimator.batch_size - len(part))]
        nats, squares = _measure(denoiser, x0, image_ids, cond, steps, filled, estimator)
        for one, value, square in zip(part, nats, squares, strict=False):
            terms[one.image, STEPS if one.level else DECODER] += one.weight * value
            terms[one.image, SIMPLE] += one.weight * square / len(denoiser.schedule)
    bound.check_finite(terms.sum(axis=1), list(image_ids))
    return terms


@dataclass(frozen=True)
class _Evaluation:
    """One timestep of one image, weighted by the number of timesteps it represents."""

    image: int
    level: int
    weight: float


def _evaluations(image_ids: Sequence[str], length: int, estimator: Estimator) -> list[_Evaluation]:
    """All evaluations: the decoder's of every image, then the sampled timesteps."""
    decoders = [_Evaluation(image, 0, 1.0) for image in range(len(image_ids))]
    others = []
    for image, name in enumerate(image_ids if length > 1 else ()):
        rng = np.random.default_rng(key("bound levels", estimator.seed, name))
        index, weight = bound.stratified(length, estimator.levels, rng)
        sampled = zip(index.tolist(), weight.tolist(), strict=True)
        others += [_Evaluation(image, level, stands_for) for level, stands_for in sampled]
    return [*decoders, *others]


def _noise(seed: int, name: str, level: int, shape: Sequence[int]) -> Tensor:
    rng = torch.Generator("cpu").manual_seed(key("bound noise", seed, name, level))
    return torch.randn(tuple(shape), generator=rng)


def _measure(
    denoiser: Denoiser,
    x0: Tensor,
    image_ids: Sequence[str],
    cond: Conditioning,
    steps: Step,
    evaluations: Sequence[_Evaluation],
    estimator: Estimator,
) -> tuple[list[float], list[float]]:
    """(term in nats, mean squared error of the noise) of each evaluation."""
    images = torch.tensor([one.image for one in evaluations])
    levels = np.array([one.level for one in evaluations])
    clean = x0[images.to(x0.device)].to(denoiser.device)
    noise = torch.stack(
        [_noise(estimator.seed, image_ids[k.image], k.level, x0.shape[1:]) for k in evaluations]
    ).to(denoiser.device)
    alpha, sigma = (
        to_tensor(gain[levels], clean)
        for gain in (denoiser.schedule.alpha, denoiser.schedule.sigma)
    )
    x_t = alpha * clean + sigma * noise  # x_t = α·x0 + σ·ε
    index = torch.as_tensor(levels, device=denoiser.device)
    rows = images if cond.count > 1 else torch.zeros_like(images)
    out, mixture = _predict(
        denoiser, x_t.to(denoiser.dtype), index, cond.rows(rows.to(denoiser.device)), estimator
    )
    row = denoiser.parameterization
    predicted = row.to_x0(out, x_t, alpha, sigma)
    squares = (row.to_noise(out, x_t, alpha, sigma) - noise).square().flatten(1).mean(dim=1)
    if estimator.clip:
        predicted = predicted.clamp(-1, 1)
    if mixture is None:
        variance = to_tensor(_fixed(steps, estimator)[levels], clean)
    else:
        small, large = (
            to_tensor(reverse_variances(steps, kind)[levels], clean) for kind in ("small", "large")
        )
        variance = learned_variance(mixture, small, large)
    step = steps.rows(levels).tensors(clean)
    nats = torch.where(
        index == 0,
        estimator.decoder(clean, predicted, variance).double().flatten(1).sum(dim=1),
        # at level 0 the posterior variance is 0, and this value is not used
        bound.step_term(step, clean, x_t, predicted, variance).double(),
    )
    return nats.tolist(), squares.tolist()


def _predict(
    denoiser: Denoiser, x_t: Tensor, index: Tensor, cond: Conditioning, estimator: Estimator
) -> tuple[Tensor, Tensor | None]:
    """The native output and, for the variance "learned", the mixture; see `learned_variance`."""
    if isinstance(estimator.variance, np.ndarray) or estimator.variance != "learned":
        return denoiser.predict(x_t, index, cond).float(), None
    out, mixture = denoiser.predict_both(x_t, index, cond)
    if mixture is None:
        raise UsageError(
            "the model has learned no variance",
            given=denoiser.card.name,
            allowed="small or large",
        )
    return out.float(), mixture.float()


def _fixed(steps: Step, estimator: Estimator) -> Float64:
    if isinstance(estimator.variance, str):
        return reverse_variances(steps, estimator.variance)
    return estimator.variance
