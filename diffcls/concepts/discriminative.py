"""Discriminative inversion: vectors of a new token that the classifier tells from other classes.

    p(k|x) = softmax_k(−D/T · ē_k(x)),   ē_k = mean over draws of mean((ε − ε̂(x_t, t, c_k))²)

is the posterior of the diffusion classifier (Li et al. 2023, eq. 6, with temperature scaling), with
the concept as k = 0. From the solution v⁰ of textual inversion, which minimises ē_0 alone,

    L(v) = −E_x log p(0|x) − E_x' log(1 − p(0|x')) + λ·mean((v − v⁰)²)/rms²

is minimised over images x of the concept and, if there are any, images x' of other classes. All
classes are compared on the same draws (paired), whose timesteps have the model's own allocation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffcls.concepts.kinds import LearningKind
from diffcls.concepts.learned_rows import LearnedRows
from diffcls.concepts.posterior_draws import Draws, drawn, posterior_scale
from diffcls.concepts.task import Learned, LearningTask
from diffcls.concepts.textual import OPTIMISATION, TEXTUAL, embeddings, learned_rows
from diffcls.models.denoiser import Conditioning
from diffcls.training.loop import Phase, generator

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


class PosteriorLoss:
    """(step) -> L(v) of a batch; its random choices depend on seed and step alone.

    Args:
        task: the task; its settings name the other classes.
        rows: the vectors, as textual inversion has learned them.
    """

    def __init__(self, task: LearningTask, rows: LearnedRows) -> None:
        self.task, self.rows = task, rows
        self.start = {part: row.detach().clone() for part, row in rows.rows.items()}
        self.scale = posterior_scale(task.denoiser)
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
        draws = drawn(self.task.denoiser, x0, self.images, DRAWS, rng)
        errors = self.errors(draws, self._own(template))  # (I, 1), with gradients
        with torch.no_grad():
            others = self.errors(draws, self._others[template])  # (I, K − 1)
        scores = -self.scale * torch.cat([errors, others], dim=1)
        odds: Tensor = scores[:, 0] - scores[:, 1:].logsumexp(dim=1)
        return odds

    def _own(self, template: int) -> Conditioning:
        prompt = self.task.templates[template].replace("{}", self.task.token)
        return self.task.denoiser.encode_with_gradient([prompt])

    def errors(self, draws: Draws, cond: Conditioning) -> Tensor:
        """(I, K) ē of each image under each prompt: the mean over its m draws."""
        columns = []
        for prompt in range(cond.count):
            which = torch.full((len(draws.x0),), prompt, device=self.task.denoiser.device)
            error = draws.errors(cond.rows(which))
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
