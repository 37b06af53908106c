"""Guides: a classifier of noisy images, CLIP, or the diffusion classifier of the sampled model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcls.data import catalog
from diffcls.diffusion.draws import nested_order
from diffcls.diffusion.draws import noise as noise_of_draw
from diffcls.diffusion.timestep_allocation import allocate
from diffcls.models.denoiser import Denoiser
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.registry import position

if TYPE_CHECKING:
    import torch

    from diffcls.generation.classes import Classes
    from diffcls.generation.guidance import LogProbability
    from diffcls.generation.sample import BatchGuidance
    from diffcls.generation.solvers import Predict

    Score = Callable[[Predict, torch.Tensor], LogProbability]
    """(predict, (B,) positions of the batch's images among all) -> log p(c | x_t)."""

GUIDES = ("classifier", "clip", "diffusion")
DRAWS_PER_GRADIENT = 4
"""Draws of the diffusion classifier that its gradient is averaged over."""


@dataclass(frozen=True)
class Guide:
    """Guidance by the gradient of a classifier, in addition to classifier-free guidance.

    Args:
        kind: one of `GUIDES`: classifier guidance (Dhariwal and Nichol 2021), CLIP guidance
            (Nichol et al. 2022), or guidance by the sampled model's diffusion classifier.
        weight: weight of the gradient, 0 or more.
        model: name or folder of the classifier or CLIP; None: the data set's own.

    Raises:
        UsageError: for an unknown kind, a weight out of range, or a model that is not used.
    """

    kind: str
    weight: float
    model: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in GUIDES:
            raise unknown_name("guide", self.kind, GUIDES)
        if not 0 <= self.weight < math.inf:
            raise UsageError("--guide-weight out of range", self.weight, "0 or more, finite")
        if self.kind == "diffusion" and self.model is not None:
            what = "--guide diffusion uses the sampled model"
            raise UsageError(what, self.model, todo="remove --guide-model")


def build_guidance(
    guide: Guide, denoiser: Denoiser, classes: Classes, labels: Sequence[int], texts: Sequence[str]
) -> BatchGuidance:
    """The guidance of each image towards its class, or its text.

    Args:
        guide: see `Guide`.
        denoiser: the sampled model.
        classes: classes of the model's data set.
        labels: (N,) class index of each image.
        texts: (N,) sentence of each image, for CLIP.

    Raises:
        UsageError, ModelError: for a guide's model that is missing, or does not fit.
    """
    import torch

    from diffcls.generation.guidance import gradient_guided

    targets = torch.tensor(list(labels), device=denoiser.device)
    if guide.kind == "classifier":
        score = _classifier(guide, denoiser, classes, targets)
    elif guide.kind == "clip":
        score = _clip(guide, denoiser, classes, texts)
    else:
        score = _diffusion(denoiser, classes, targets)

    def guidance(predict: Predict, positions: Sequence[int]) -> Predict:
        at = torch.tensor(list(positions), device=denoiser.device)
        return gradient_guided(predict, score(predict, at), guide.weight, denoiser.schedule)

    return guidance


def _classifier(guide: Guide, denoiser: Denoiser, classes: Classes, targets: torch.Tensor) -> Score:
    import torch

    from diffcls.generation.guidance import of_classifier
    from diffcls.models import noisy_classifier

    classifier = noisy_classifier.load(guide.model or f"noisy-{classes.dataset}")
    logits = classifier.logits_for(denoiser)
    columns = [position("class", name, classifier.class_names) for name in classes.names]
    order = torch.tensor(columns, device=denoiser.device)
    return lambda _, at: of_classifier(lambda x, i: logits(x, i)[:, order], targets[at])


def _clip(guide: Guide, denoiser: Denoiser, classes: Classes, texts: Sequence[str]) -> Score:
    import torch

    from diffcls.generation.guidance import of_estimate, of_similarity
    from diffcls.models import clip

    model = clip.load(guide.model or catalog.find(classes.dataset).clip, denoiser.device)
    unique = sorted(set(texts))
    vectors = model.classifier(unique, range(len(unique)))
    rows = torch.tensor([unique.index(text) for text in texts], device=denoiser.device)

    def score(predict: Predict, at: torch.Tensor) -> LogProbability:
        similarity = of_similarity(
            model.embed_generated, denoiser.decode_latents, vectors[rows[at]], model.logit_scale
        )
        return of_estimate(predict, similarity)

    return score


def _diffusion(denoiser: Denoiser, classes: Classes, targets: torch.Tensor) -> Score:
    import torch

    from diffcls.generation.guidance import of_denoiser, of_estimate

    if denoiser.labels == ():
        raise UsageError(
            "--guide diffusion needs a conditional model",
            given=denoiser.card.name,
            todo="use --guide classifier or clip",
        )
    cond, schedule = denoiser.encode_prompts(classes.prompts), denoiser.schedule
    even = nested_order(len(schedule), DRAWS_PER_GRADIENT)
    levels = allocate(even, denoiser.card.allocation, schedule).tolist()
    noises = torch.stack(
        [noise_of_draw(0, j, denoiser.sample_shape) for j in range(DRAWS_PER_GRADIENT)]
    ).to(denoiser.device)

    def score(predict: Predict, at: torch.Tensor) -> LogProbability:
        temperature = denoiser.card.temperature
        posterior = of_denoiser(denoiser, cond, targets[at], levels, noises, temperature)
        return of_estimate(predict, posterior)

    return score
