"""Guidance: classifier-free, classifier, CLIP, and by a diffusion classifier.

Each guidance returns a `Predict`, the estimates of x0 and noise at a level, which is all that a
solver needs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.generation.solvers import Estimates, Predict
from diffcls.models.denoiser import Conditioning, Denoiser

LogProbability = Callable[[Tensor, int], Tensor]
"""(x_t (B, C, h, w), schedule index) -> (B,) log p(c | x_t) of each sample's class or text."""


def guided(
    denoiser: Denoiser,
    cond: Conditioning,
    empty: Conditioning,
    scale: float,
    mixture: bool = False,
    control: Tensor | None = None,
) -> Predict:
    """Classifier-free guidance: ε̃ = ε(∅) + w·(ε(c) − ε(∅)).

    Ho and Salimans 2022, eq. 6, whose w is one less than the w here and in diffusers.

    Args:
        denoiser: the model.
        cond: (B, ...) conditioning of the prompts.
        empty: one row, conditioning of the empty prompt.
        scale: w; 1 is no guidance and 0 no prompt, at half the cost of other values.
        mixture: whether to return the mixture of a learned variance too, that of the prompt.
        control: (B, ...) encoded maps, of a model with a ControlNet, whatever the prompt.
    """
    schedule, row = denoiser.schedule, denoiser.parameterization

    def predict(x_t: Tensor, index: int) -> Estimates:
        alpha, sigma = float(schedule.alpha[index]), float(schedule.sigma[index])
        count = len(x_t)
        first = torch.zeros(count, dtype=torch.long, device=x_t.device)
        if scale in (0.0, 1.0):
            both, rows, maps = x_t, cond if scale else empty.rows(first), control
        else:
            both = torch.cat([x_t, x_t])
            rows = Conditioning.concatenate([empty.rows(first), cond])
            maps = None if control is None else torch.cat([control, control])
        steps = torch.full((len(both),), index, device=both.device)
        rows = rows.with_control(maps)
        out, v = denoiser.predict_both(both.to(denoiser.dtype), steps, rows)
        out, v = out.float(), v[-count:].float() if mixture and v is not None else None
        a, b = torch.tensor(alpha), torch.tensor(sigma)
        if scale not in (0.0, 1.0):  # ε is linear in the output, so guiding the output guides ε
            out = out[:count] + scale * (out[count:] - out[:count])
        return Estimates(row.to_x0(out, x_t, a, b), row.to_noise(out, x_t, a, b), v)

    return predict


def gradient_guided(
    predict: Predict, log_probability: LogProbability, weight: float, schedule: NoiseSchedule
) -> Predict:
    """Guidance by a gradient, as in classifier guidance (Dhariwal and Nichol 2021, algorithm 2).

        ε̂ = ε − w·σ_t·∇ log p(c | x_t),    x̂0 = (x_t − σ_t·ε̂)/α_t

    At a level without signal (α_t = 0), x_t does not depend on the class, and there is no guidance.

    Args:
        predict: the estimates without guidance.
        log_probability: log p(c | x_t), which guidance increases.
        weight: w; 1 samples from p(x)·p(c | x), a larger one from a sharpened distribution.
        schedule: noise schedule of the model.
    """

    def predict_guided(x_t: Tensor, index: int) -> Estimates:
        x0, noise, mixture = predict(x_t, index)
        alpha, sigma = float(schedule.alpha[index]), float(schedule.sigma[index])
        if alpha == 0:
            return Estimates(x0, noise, mixture)
        noise = noise - weight * sigma * gradient(log_probability, x_t, index)
        return Estimates((x_t - sigma * noise) / alpha, noise, mixture)

    return predict_guided


def gradient(log_probability: LogProbability, x_t: Tensor, index: int) -> Tensor:
    """∇ log p(c | x_t) of each sample, like x_t."""
    with torch.inference_mode(False), torch.enable_grad():
        # a copy, as tensors made in inference mode cannot be differentiated
        leaf = x_t.clone().requires_grad_()
        (result,) = torch.autograd.grad(log_probability(leaf, index).sum(), leaf)
    return result


def of_classifier(classify: Callable[[Tensor, Tensor], Tensor], classes: Tensor) -> LogProbability:
    """log p_φ(c | x_t) of a classifier trained on noisy images (Dhariwal and Nichol 2021).

    Args:
        classify: (x_t (B, C, h, w), index (B,)) -> (B, K) logits.
        classes: (B,) target classes.
    """

    def log_probability(x_t: Tensor, index: int) -> Tensor:
        logits = classify(x_t, torch.full((len(x_t),), index, device=x_t.device))
        return _chosen(F.log_softmax(logits, dim=1), classes)

    return log_probability


def of_estimate(predict: Predict, score: Callable[[Tensor], Tensor]) -> LogProbability:
    """A score of clean images, applied to the estimate of x0.

    Its gradient is computed by backpropagation through the network.

    Args:
        predict: the estimates.
        score: x0 (B, C, h, w) -> (B,), differentiable.
    """
    return lambda x_t, index: score(predict(x_t, index).x0)


def of_similarity(
    embed: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    texts: Tensor,
    scale: float,
) -> Callable[[Tensor], Tensor]:
    """x0 -> CLIP similarity of its image and a text: cosine times `scale`.

    CLIP guidance (Nichol et al. 2022, section 2.4), here on the clean estimate.

    Args:
        embed: images (B, 3, H, W) in [−1, 1] -> (B, D) unit vectors, differentiable.
        decode: x0 -> images.
        texts: (B, D) unit vectors.
        scale: logit scale of the CLIP, so that weights compare with those of a classifier.
    """
    return lambda x0: scale * (embed(decode(x0)) * texts).sum(dim=1)


def of_denoiser(
    denoiser: Denoiser,
    cond: Conditioning,
    classes: Tensor,
    levels: list[int],
    noises: Tensor,
    temperature: float = 1.0,
) -> Callable[[Tensor], Tensor]:
    """x0 -> log p(c | x0) of the diffusion classifier: a softmax of minus the summed errors.

    Args:
        denoiser: a model, the sampled one or another.
        cond: (K, ...) conditioning of the classes' prompts.
        classes: (B,) target classes.
        levels: (N,) schedule indices of the draws.
        noises: (N, C, h, w) noise of the draws.
        temperature: temperature of the posterior, from the model's card.
    """
    count = cond.count
    row, schedule = denoiser.parameterization, denoiser.schedule

    def score(x0: Tensor) -> Tensor:
        # every image with every class: (B, C, h, w) -> (B·K, C, h, w)
        repeated = x0.repeat_interleave(count, dim=0)
        rows = cond.rows(torch.arange(count, device=x0.device).repeat(len(x0)))
        total = torch.zeros(len(x0), count, device=x0.device)
        for level, noise in zip(levels, noises, strict=True):
            alpha, sigma = float(schedule.alpha[level]), float(schedule.sigma[level])
            x_t = alpha * repeated + sigma * noise
            index = torch.full((len(x_t),), level, device=x0.device)
            out = denoiser.predict(x_t.to(denoiser.dtype), index, rows).float()
            estimate = row.to_noise(out, x_t, torch.tensor(alpha), torch.tensor(sigma))
            total = total + (estimate - noise).square().flatten(1).sum(dim=1).reshape(-1, count)
        return _chosen(F.log_softmax(-total / (len(levels) * temperature), dim=1), classes)

    return score


def _chosen(log_p: Tensor, classes: Tensor) -> Tensor:
    """(B, K) -> (B,): each row's entry for its class."""
    return log_p.gather(1, classes[:, None])[:, 0]
