"""Discriminative inversion: vectors of a new token that the classifier tells from other classes.

    p(k|x) = softmax_k(−D/T · ē_k(x)),   ē_k = mean over draws of mean((ε − ε̂(x_t, t, c_k))²)

is the posterior of the diffusion classifier (Li et al. 2023, eq. 6, with temperature scaling), with
the concept as k = 0. From the solution v⁰ of textual inversion, which minimises ē_0 alone,

    L(v) = −E_x log p(0|x) − E_x' log(1 − p(0|x')) + λ·mean((v − v⁰)²)/rms²

is minimised over images x of the concept and, if there are any, images x' of other classes. All
classes are compared on the same draws (paired), whose timesteps have the model's own allocation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffcls.concepts.kinds import LearningKind
from diffcls.concepts.learned_rows import LearnedRows
from diffcls.concepts.task import Learned, LearningTask
from diffcls.concepts.textual import OPTIMISATION, TEXTUAL, embeddings, learned_rows
from diffcls.diffusion.timestep_allocation import allocate
from diffcls.models.denoiser import Conditioning
from diffcls.training.loop import Phase, generator
from diffcls.training.losses import noised, objective
from diffcls.training.noise_levels import LevelBatch, times

DRAWS = 4
"""Draws per image and step, over which its errors are averaged."""
NEARNESS = 0.1
"""λ: weight of the distance to the solution of textual inversion."""


def learn(task: LearningTask) -> Learned:
    """Learn the vectors of the token: first by textual inversion, then by the posterior."""
    rows, seconds = learned_rows(task)
    loss = PosteriorLoss(task, rows)
    with rows.attached():
        optimisation = task.settings.optimisation()
        loop = task.run(Phase("discriminative", {"concept": rows}, loss, optimisation))
    return embeddings(task, rows, seconds + loop.seconds)


@dataclass(frozen=True)
class Draws:
    """Draws of a batch: I images, each with m (timestep, noise) pairs.

    Args:
        x0, noise, x_t: (I·m, C, h, w) on the device.
        levels: noise levels (I·m,).
    """

    x0: Tensor
    noise: Tensor
    x_t: Tensor
    levels: LevelBatch


class PosteriorLoss:
    """(step) -> L(v) of a batch; its random choices depend on seed and step alone.

    Args:
        task: the task; its settings name the other classes.
        rows: the vectors, as textual inversion has learned them.
    """

    def __init__(self, task: LearningTask, rows: LearnedRows) -> None:
        self.task, self.rows = task, rows
        self.start = {part: row.detach().clone() for part, row in rows.rows.items()}
        denoiser = task.denoiser
        dimensions = float(np.prod(denoiser.sample_shape))
        self.scale = dimensions / denoiser.card.temperature
        # each step has other draws, and an image m of them
        self.images = task.settings.optimisation().batch // DRAWS
        self._others = self._encode_others()

    def _encode_others(self) -> list[Conditioning]:
        """(T,) the prompts of the K − 1 other classes, by template; they never change."""
        names, denoiser = self.task.settings.against or (), self.task.denoiser
        with torch.no_grad():
            return [
                denoiser.encode_with_gradient([t.replace("{}", name) for name in names])
                for t in self.task.templates
            ]

    def __call__(self, step: int) -> Tensor:
        task = self.task
        rng = generator("discriminative", task.settings.seed, step)
        template = int(torch.randint(len(task.templates), (1,), generator=rng))
        own = self._log_odds(task.x0, template, rng)
        loss = torch.nn.functional.softplus(-own).mean()  # −log p(0|x), the odds against the rest
        if task.other is not None:
            other = self._log_odds(task.other, template, rng)
            loss = loss + torch.nn.functional.softplus(other).mean()
        return loss + NEARNESS * self._distance()

    def _distance(self) -> Tensor:
        """mean((v − v⁰)²)/rms², as the parameters are in units of the table's root mean square."""
        squares = [
            (row - self.start[part].to(row.device)).square().mean()
            for part, row in self.rows.rows.items()
        ]
        return torch.stack(squares).mean()

    def _log_odds(self, x0: Tensor, template: int, rng: torch.Generator) -> Tensor:
        """(I,) log p(0|x)/(1 − p(0|x)) of I random images."""
        draws = self._draw(x0, rng)
        errors = self.errors(draws, self._own(template))  # (I, 1), with gradients
        with torch.no_grad():
            others = self.errors(draws, self._others[template])  # (I, K − 1)
        scores = -self.scale * torch.cat([errors, others], dim=1)
        odds: Tensor = scores[:, 0] - scores[:, 1:].logsumexp(dim=1)
        return odds

    def _own(self, template: int) -> Conditioning:
        prompt = self.task.templates[template].replace("{}", self.task.token)
        return self.task.denoiser.encode_with_gradient([prompt])

    def _draw(self, x0: Tensor, rng: torch.Generator) -> Draws:
        denoiser = self.task.denoiser
        image = torch.randint(len(x0), (self.images,), generator=rng).repeat_interleave(DRAWS)
        count = len(image)
        noise = torch.randn(count, *x0.shape[1:], generator=rng).to(denoiser.device)
        schedule = denoiser.schedule
        even = (times(count, rng) * len(schedule)).long().clamp(max=len(schedule) - 1)
        # stratified over the batch: a permutation gives each image times from all of it
        even = even[torch.randperm(count, generator=rng)]
        index = allocate(even.numpy(), denoiser.card.allocation, schedule)
        alpha, sigma = (
            torch.tensor(v[index], dtype=torch.float32) for v in (schedule.alpha, schedule.sigma)
        )
        place = torch.from_numpy(np.asarray(index))
        levels = LevelBatch(alpha, sigma, place.float(), place)
        chosen = x0[image].to(denoiser.device)
        return Draws(chosen, noise, noised(chosen, noise, levels), levels)

    def errors(self, draws: Draws, cond: Conditioning) -> Tensor:
        """(I, K) ē of each image under each prompt: the mean over its m draws."""
        denoiser = self.task.denoiser
        index = torch.as_tensor(draws.levels.index).to(denoiser.device)
        columns = []
        for prompt in range(cond.count):
            which = torch.full((len(draws.x0),), prompt, device=denoiser.device)
            out = denoiser.predict(draws.x_t.to(denoiser.dtype), index, cond.rows(which))
            row = denoiser.parameterization
            error = objective(out.float(), draws.x0, draws.noise, draws.levels, row, "epsilon")
            columns.append(error.view(-1, DRAWS).mean(dim=1))  # (I·m,) -> (I, m) -> (I,)
        return torch.stack(columns, dim=1)


DISCRIMINATIVE = LearningKind(
    learn,
    frozenset({"vectors", "init", "against", "against_images"}),
    OPTIMISATION,
    "discriminative inversion: the posterior of the diffusion classifier, from the solution of "
    "textual inversion (Gal et al. 2023)",
    {**TEXTUAL.phases, "discriminative": DRAWS},
    {"against": "name the other classes, such as --against cup bowl"},
    lambda settings: settings.against or (),
)
"""Discriminative inversion: the embeddings that separate the concept from given classes."""
