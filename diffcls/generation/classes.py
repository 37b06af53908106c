"""What the commands draw: which prompts a model is asked, and what leads its samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffcls.data import catalog
from diffcls.data.class_ids import class_prompts
from diffcls.data.load import load_dataset
from diffcls.diffusion.draws import nested_order
from diffcls.diffusion.draws import noise as noise_of_draw
from diffcls.diffusion.timestep_allocation import allocate
from diffcls.models.denoiser import Denoiser
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.registry import position

if TYPE_CHECKING:
    import torch

    from diffcls.data.dataset import Dataset
    from diffcls.generation.guidance import LogProbability
    from diffcls.generation.sample import Lead
    from diffcls.generation.samplers import Predict

GUIDES = ("classifier", "clip", "diffusion")
DRAWS = 4
"""Draws of the diffusion classifier that leads: of so many its gradient is the mean."""


@dataclass(frozen=True)
class Classes:
    """The classes that a model can be asked for.

    Args:
        names: (K,) as the data set calls them.
        prompts: (K,) as the model is asked for them: texts, class ids in decimal digits, or empty
            for a model that takes no condition.
        texts: (K,) sentences about them, whatever the model reads.
        dataset: whose classes they are.
    """

    names: tuple[str, ...]
    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    dataset: str

    def index(self, name: str) -> int:
        """Which class a name is, upper and lower case alike.

        Raises:
            UsageError: for a name that is none of them.
        """
        return position("class", name, self.names)


def dataset_of(denoiser: Denoiser, given: str | None) -> str:
    """The data set that was asked for, else the first one that the model was trained on.

    Raises:
        UsageError: where neither is known.
    """
    if given is not None:
        return given
    if not denoiser.card.trained_on:
        raise UsageError(
            "the model does not say which data set it is of",
            given=denoiser.card.name,
            todo="name one: --dataset NAME",
        )
    return denoiser.card.trained_on[0]


def classes_of(
    denoiser: Denoiser, dataset: str, data_root: str | None = None, data: Dataset | None = None
) -> Classes:
    """The classes of a data set, as a model is asked for them.

    Args:
        denoiser: the model.
        dataset: name of the data set.
        data_root: where local data lie.
        data: the split whose images are looked at: the classes are then in its own order. None:
            those that the model's card names, else those of the data set's first split.

    Raises:
        UsageError: for a class that the model does not know.
        DataError: where the data cannot be found.
    """
    spec = catalog.find(dataset)
    names: tuple[str, ...] = denoiser.card.labels
    words, template = names, spec.templates[0]
    if data is None and (not names or denoiser.card.trained_on[:1] != (dataset,)):
        data = load_dataset(dataset, spec.splits[0] if spec.splits else "test", data_root)
    if data is not None:
        names = tuple(data.class_names)
        words = tuple(data.prompt_names) or names
        template = "{}" if data.sentences else template
    texts = tuple(template.replace("{}", word) for word in words)
    if denoiser.labels is None:
        prompts = texts
    elif denoiser.labels:
        prompts = class_prompts(names, denoiser.labels).prompts
    else:
        prompts = ("",) * len(names)
    return Classes(names, prompts, texts, dataset)


@dataclass(frozen=True)
class Guide:
    """What leads samples beside the prompt.

    Args:
        kind: one of `GUIDES`.
        weight: of its gradient.
        model: name or folder of the classifier, or the CLIP; None: the data set's own.

    Raises:
        UsageError: for an unknown kind, a weight out of range, or a model that would lead nothing.
    """

    kind: str
    weight: float
    model: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in GUIDES:
            raise unknown_name("guide", self.kind, GUIDES)
        if not 0 <= self.weight < math.inf:
            raise UsageError("weight of the guide out of range", self.weight, "0 or more, finite")
        if self.kind == "diffusion" and self.model is not None:
            raise UsageError("the model leads itself", self.model, todo="leave --guide-model out")


def lead_by(
    guide: Guide, denoiser: Denoiser, classes: Classes, wanted: Sequence[int], texts: Sequence[str]
) -> Lead:
    """The guidance of a guide towards a class, or a text, for each image.

    Args:
        guide: see `Guide`.
        denoiser: the model that is led.
        classes: of its data set.
        wanted: (N,) class of each image.
        texts: (N,) sentence of each image, for CLIP.

    Raises:
        UsageError, ModelError: for a guide's model that is not there, or does not fit.
    """
    import torch

    from diffcls.generation import guidance
    from diffcls.models import clip, noisy_classifier

    schedule, device = denoiser.schedule, denoiser.device
    goal = torch.tensor(list(wanted), device=device)
    if guide.kind == "classifier":
        loaded = noisy_classifier.load(guide.model or f"noisy-{classes.dataset}")
        logits = loaded.logits_for(denoiser)
        theirs = [position("class", name, loaded.class_names) for name in classes.names]
        order = torch.tensor(theirs, device=device)

        def log_probability(predict: Predict, at: torch.Tensor) -> LogProbability:
            return guidance.of_classifier(lambda x, i: logits(x, i)[:, order], goal[at])

    elif guide.kind == "clip":
        name = guide.model or catalog.find(classes.dataset).clip
        model = clip.load(name, device)
        unique = sorted(set(texts))
        vectors = model.classifier(unique, range(len(unique)))
        rows = torch.tensor([unique.index(text) for text in texts], device=device)

        def log_probability(predict: Predict, at: torch.Tensor) -> LogProbability:
            score = guidance.of_similarity(
                model.embed_drawn, denoiser.decode_latents, vectors[rows[at]], model.logit_scale
            )
            return guidance.of_estimate(predict, score)

    elif denoiser.labels == ():
        raise UsageError(
            "an unconditional model tells no classes apart",
            given=denoiser.card.name,
            todo="use --guide classifier or clip",
        )
    else:
        own: Any = denoiser
        cond = own.encode_prompts(classes.prompts)
        even = nested_order(len(schedule), DRAWS)
        levels = allocate(even, denoiser.card.allocation, schedule).tolist()
        noises = torch.stack([noise_of_draw(0, j, denoiser.sample_shape) for j in range(DRAWS)])
        noises, temperature = noises.to(device), denoiser.card.temperature

        def log_probability(predict: Predict, at: torch.Tensor) -> LogProbability:
            score = guidance.of_denoiser(denoiser, cond, goal[at], levels, noises, temperature)
            return guidance.of_estimate(predict, score)

    def lead(predict: Predict, places: Sequence[int]) -> Predict:
        at = torch.tensor(list(places), device=device)
        return guidance.led(predict, log_probability(predict, at), guide.weight, schedule)

    return lead
