"""Training of a classifier of noisy images for classifier guidance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffcls.data.load import load_dataset
from diffcls.models import noisy_classifier
from diffcls.models.denoiser import Denoiser
from diffcls.models.json_files import read_json
from diffcls.models.loading import CARD, load
from diffcls.models.noisy_classifier import CHECKPOINT, NoisyClassifier
from diffcls.support.errors import ModelError
from diffcls.support.seeding import key
from diffcls.training.loop import generator
from diffcls.training.model_card import noisy_readme
from diffcls.training.pixel_losses import load_initial_weights, noisy_phase
from diffcls.training.recipes import NoisyRecipe
from diffcls.training.run import TrainingRun
from diffcls.training.run_files import LEAD
from diffcls.training.stored_images import tensor_of

NOISE_RANGES = 5
"""Number of equal parts of the schedule, each with its own accuracy."""


class NoisyTraining(TrainingRun):
    """Training of a classifier of noisy images; see `diffcls.training.run.TrainingRun`."""

    index: ClassVar[str] = CHECKPOINT
    recipe: NoisyRecipe

    def __post_init__(self) -> None:
        self.guided = open_guided(self.recipe.model)
        super().__post_init__()

    def _plan(self) -> dict[str, Any]:
        return {**super()._plan(), LEAD: self.guided.card.revision}

    def run(self) -> dict[str, Any]:
        guided = self.guided
        train = self.training_data()
        images, labels = self._images(guided, train)
        classes, channels = len(train.class_names), guided.sample_shape[0]
        torch.manual_seed(key("weights", self.seed))
        model = NoisyClassifier(classes, channels, self.recipe.widths)
        if self.init:
            load_initial_weights(model, noisy_classifier.load(self.init).model.state_dict())
        validation = self._images(guided, load_dataset(self.dataset, "validation", self.data_root))
        images, labels = images.to(self._data_device), labels.to(self._data_device)
        loop = self._loop(
            noisy_phase(model, guided.schedule, images, labels, self.recipe, self.seed)
        )

        def measure(step: int) -> dict[str, float]:
            accuracy = accuracies(model, guided, *validation)
            mean = sum(accuracy) / len(accuracy)
            return {"images": step * self.recipe.batch, "validation_accuracy": mean}

        loop.run(measure, self.points)
        if not self.processes.is_main_process:
            return {}
        noisy_classifier.save(model, self.folder)
        facts = {
            # class names are looked up in the first
            "trained_on": list(dict.fromkeys([self.dataset, *self.trained_on(train)])),
            "measured_on": self.dataset,
            "trained_with": guided.card.name,
            LEAD: guided.card.revision,
            "shape": list(guided.sample_shape),
            "labels": list(train.class_names),
            "validation_accuracy_by_noise": accuracies(model, guided, *validation),
        }
        return self._write_card(facts, train, loop.seconds / 3600, "noisy")

    def _images(self, guided: Denoiser, data: Any) -> tuple[Tensor, Tensor]:
        images, labels = tensor_of(data, guided.image_size)
        return guided.encode_images(images), torch.tensor(labels)

    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        folder = noisy_classifier.folder_of(str(self.init))
        return read_json(folder / CARD), noisy_classifier.revision(folder)

    def readme(self, card: dict[str, Any]) -> str:
        return noisy_readme(card)

    def report(self, card: dict[str, Any]) -> list[str]:
        levels = ", ".join(f"{value:.1%}" for value in card["validation_accuracy_by_noise"])
        return [
            f"validation accuracy, from least to most noise: {levels}",
            f"guide samples with it: python -m diffcls.generate --model {self.recipe.model} "
            f"--guide classifier --guide-model {self.folder} --class NAME",
        ]


def open_guided(name: str) -> Denoiser:
    """The diffusion model to guide.

    Raises:
        ModelError: for a latent diffusion model.
    """
    guided = load(name)
    if guided.is_latent:
        raise ModelError(
            "--lead needs a pixel-space diffusion model",
            given=f"{name}, a latent one",
            todo="choose one that `diffcls train --model pixels` trained",
        )
    return guided


@torch.no_grad()
def accuracies(
    model: NoisyClassifier, guided: Denoiser, images: Tensor, labels: Tensor
) -> list[float]:
    """Accuracy at random levels of each fifth of the schedule, from least to most noise."""
    length = len(guided.schedule)
    alpha, sigma = (
        torch.tensor(v, dtype=torch.float32) for v in (guided.schedule.alpha, guided.schedule.sigma)
    )
    by_range = []
    for part in range(NOISE_RANGES):
        rng = generator("noisy validation", part)
        index = torch.randint(
            part * length // NOISE_RANGES,
            (part + 1) * length // NOISE_RANGES,
            (len(images),),
            generator=rng,
        )
        a, s = (v[index][:, None, None, None] for v in (alpha, sigma))
        x_t = a * images + s * torch.randn(images.shape, generator=rng)
        logits = torch.cat(
            [model(*rows) for rows in zip(x_t.split(256), alpha[index].split(256),
                                          sigma[index].split(256), strict=True)]
        )  # fmt: skip
        by_range.append(float((logits.argmax(dim=1) == labels).float().mean()))
    return by_range
