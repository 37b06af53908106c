"""Measurement of evidence: the errors of two classes at each position, on the same draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.prompts import PromptSet
from diffcls.diffusion.timestep_allocation import EVEN
from diffcls.explain.evidence import Evidence, word_evidence
from diffcls.models.denoiser import Denoiser
from diffcls.scoring.scorer import Scorer
from diffcls.search.exhaustive import Exhaustive
from diffcls.support.errors import DataError, UsageError
from diffcls.support.types import Float64


def thorough_method(
    denoiser: Denoiser,
    prompts: PromptSet,
    draws: int,
    seed: int = 0,
    batch_size: int = 64,
    allocation: str = EVEN,
) -> DiffusionMethod:
    """A classifier that evaluates every class on every draw; arguments as of `DiffusionMethod`."""
    return DiffusionMethod(
        denoiser,
        prompts,
        Exhaustive(draws),
        seed=seed,
        batch_size=batch_size,
        allocation=allocation,
    )


def measure_evidence(
    method: DiffusionMethod,
    pixels: NDArray[np.float32],
    label: int = 0,
    other: int = 1,
    words: bool = True,
) -> Evidence:
    """Evidence in an image for one class over another, on all draws of a method's search.

    Args:
        method: a classifier whose search evaluates every draw of every class, `Exhaustive`.
        pixels: (3, H, W) in [−1, 1], the image as the model receives it.
        label, other: indices of the two classes.
        words: whether to score the first prompt of each class without each of its words, too.

    Raises:
        UsageError: for fewer than two draws, of which there is no standard error.
        DataError: for an image whose encoding is not finite.
    """
    scorer, prompts, denoiser = method.scorer, method.prompts, method.denoiser
    if len(scorer.plan) < 2:
        raise UsageError("draws out of range", given=len(scorer.plan), allowed="2 or more")
    x0 = denoiser.encode_images(torch.from_numpy(pixels)[None])[0]
    if not torch.isfinite(x0).all():
        raise DataError("the encoding of the image is not finite, in single precision")
    maps = [_class_maps(scorer, x0, prompts.rows_of(k)) for k in (label, other)]
    positions = maps[0][0].size
    explained = (label, other) if words and denoiser.labels is None else ()
    return Evidence(
        label=prompts.class_names[label],
        other=prompts.class_names[other],
        differences=(maps[1] - maps[0]) / positions,
        timesteps=denoiser.schedule.timesteps[scorer.plan.indices].astype(np.float64),
        scale=method.likelihood_scale,
        pixels=np.rint((pixels.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0),
        words={
            prompts.class_names[k]: word_evidence(
                prompts.prompts[prompts.rows_of(k)[0]], lambda texts: _errors(scorer, x0, texts)
            )
            for k in explained
        },
    )


def _class_maps(scorer: Scorer, x0: Tensor, rows: Sequence[int]) -> Float64:
    """(N, h, w) errors of one class: the mean over its prompts."""
    maps: Float64 = np.mean([_prompt_maps(scorer, x0, row) for row in rows], axis=0)
    return maps


def _prompt_maps(scorer: Scorer, x0: Tensor, row: int) -> Float64:
    """(N, h, w) errors of one prompt on each draw."""
    parts = []
    for first in range(0, len(scorer.plan), scorer.batch_size):
        draws = list(range(len(scorer.plan)))[first : first + scorer.batch_size]
        images = x0.expand(len(draws), *x0.shape)
        prompts = torch.full((len(draws),), row)
        maps = scorer.error_maps(images, prompts, draws)
        if not torch.isfinite(maps).all() and scorer.denoiser.dtype != torch.float32:
            with scorer.denoiser.float32():  # as a classification does
                maps = scorer.error_maps(images, prompts, draws)
        if not torch.isfinite(maps).all():
            raise DataError("the errors of the image are not finite, in single precision")
        parts.append(maps.cpu().double().numpy())
    return np.concatenate(parts)


def _errors(scorer: Scorer, x0: Tensor, texts: Sequence[str]) -> Float64:
    """(P, N) errors of any texts on the draws of a scorer."""
    cond = scorer.denoiser.encode_prompts(texts)
    of_texts = Scorer(scorer.denoiser, cond, scorer.plan, scorer.scoring, scorer.batch_size)
    return np.stack(
        [_prompt_maps(of_texts, x0, row).mean(axis=(1, 2)) for row in range(len(texts))]
    )
