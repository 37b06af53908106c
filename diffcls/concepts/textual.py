"""Textual inversion: the vectors of a new token that minimise the model's own training loss.

    v* = argmin_v E_{x0, ε, t} w·‖out(x_t, t, c(v)) − target‖²

(Gal et al. 2023, eq. 2), where the native output of the network stands for ε, and x0 is one of the
images, c(v) the encoding of a template with the token. Model and text encoders are frozen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffcls.concepts.kinds import LearningKind
from diffcls.concepts.learned_rows import LearnedRows, initial_vectors
from diffcls.concepts.task import Learned, LearningTask
from diffcls.models.concept_files import EMBEDDINGS, tensors_of
from diffcls.training.loop import Phase, generator
from diffcls.training.noise_levels import discrete
from diffcls.training.recipes import Optimisation

OPTIMISATION = Optimisation(
    images=400 * 16,
    batch=16,
    learning_rate=0.02,
    warmup=0.05,
    decay="cosine",
    ema=0.95,
    weight_decay=0.0,
)


def learn(task: LearningTask) -> Learned:
    """Learn the vectors of the token by the model's training loss."""
    rows, seconds = learned_rows(task)
    return embeddings(task, rows, seconds)


def learned_rows(task: LearningTask) -> tuple[LearnedRows, float]:
    """The trained rows, and the time of their training in seconds."""
    settings = task.settings
    start = initial_vectors(task.denoiser, task.token, settings.init, settings.vectors)
    rows = LearnedRows(task.denoiser, task.token, start)
    with rows.attached():
        loop = task.run(Phase("textual", {"concept": rows}, loss_of(task), settings.optimisation()))
    return rows, loop.seconds


def embeddings(task: LearningTask, rows: LearnedRows, seconds: float) -> Learned:
    """The result of learning vectors."""
    vectors = rows.vectors()
    family = type(task.denoiser.pipeline).__name__
    tensors = tensors_of(task.token, vectors, family)
    return Learned(task.token, EMBEDDINGS, tensors, seconds, vectors)


def loss_of(task: LearningTask) -> Callable[[int], Tensor]:
    """(step) -> training loss of a batch; its random choices depend on seed and step alone."""
    denoiser, seed = task.denoiser, task.settings.seed
    batch = task.settings.optimisation().batch
    levels = discrete(denoiser.schedule)
    prompts, place = task.prompts(task.token), denoiser.device

    def loss(step: int) -> Tensor:
        rng = generator("textual", seed, step)
        images = torch.randint(len(task.x0), (batch,), generator=rng)
        noise = torch.randn(batch, *task.x0.shape[1:], generator=rng).to(place)
        noise_levels = levels(batch, rng)
        words = torch.randint(len(prompts), (batch,), generator=rng)
        used, which = words.unique(return_inverse=True)  # each prompt is encoded once
        cond = denoiser.encode_with_gradient([prompts[int(i)] for i in used])
        x0 = task.x0[images].to(place)
        return task.native_loss(x0, noise, noise_levels, cond.rows(which.to(place)))

    return loss


TEXTUAL = LearningKind(
    learn,
    frozenset({"vectors", "init"}),
    OPTIMISATION,
    "textual inversion (Gal et al. 2023)",
    {"textual": 1},
)
"""Textual inversion: one or more embeddings, all else frozen."""
