"""A classifier of noisy images from a data set to its card: what the train command does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffcls.data.load import load_dataset
from diffcls.models import noisy_classifier
from diffcls.models.components import read_json
from diffcls.models.denoiser import Denoiser
from diffcls.models.loading import CARD, load
from diffcls.models.noisy_classifier import CHECKPOINT, NoisyClassifier
from diffcls.support.errors import ModelError
from diffcls.support.seeding import key
from diffcls.training.loop import generator
from diffcls.training.pixel_losses import go_on_from, noisy_phase
from diffcls.training.recipes import NoisyRecipe
from diffcls.training.run import TrainingRun, continued, curve_table, tensor_of

PARTS = 5
"""Of the noise levels, each with an accuracy of its own."""


class NoisyTraining(TrainingRun):
    """A classifier of noisy images in the making; see `diffcls.training.run.TrainingRun`."""

    index: ClassVar[str] = CHECKPOINT
    recipe: NoisyRecipe

    def __post_init__(self) -> None:
        self.led = open_led(self.recipe.model)
        super().__post_init__()

    def run(self) -> dict[str, Any]:
        led = self.led
        train = load_dataset(self.dataset, "train", self.data_root)
        images, labels = self._images(led, train)
        classes, channels = len(train.class_names), led.sample_shape[0]
        torch.manual_seed(key("weights", self.seed))
        model = NoisyClassifier(classes, channels, self.recipe.widths)
        if self.init:
            go_on_from(model, noisy_classifier.load(self.init).model.state_dict())
        validation = self._images(led, load_dataset(self.dataset, "validation", self.data_root))
        loop = self._loop(noisy_phase(model, led.schedule, images, labels, self.recipe, self.seed))

        def measure(step: int) -> dict[str, float]:
            accuracy = accuracies(model, led, *validation)
            mean = sum(accuracy) / len(accuracy)
            return {"images": step * self.recipe.batch, "validation_accuracy": mean}

        loop.run(measure)
        if not self.team.leads:
            return {}
        noisy_classifier.save(model, self.folder)
        facts = {
            # the first is where their classes are looked up
            "trained_on": list(dict.fromkeys([self.dataset, *self.trained_on(train)])),
            "measured_on": self.dataset,
            "trained_with": led.card.name,
            "shape": list(led.sample_shape),
            "labels": list(train.class_names),
            "validation_accuracy_by_noise": accuracies(model, led, *validation),
        }
        return self._write_card(facts, train, loop.seconds / 3600, "noisy")

    def _images(self, led: Denoiser, data: Any) -> tuple[Tensor, Tensor]:
        images, labels = tensor_of(data, led.image_size)
        return led.encode_images(images), torch.tensor(labels)

    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        folder = noisy_classifier.folder_of(str(self.init))
        return read_json(folder / CARD), noisy_classifier.revision(folder)

    def readme(self, card: dict[str, Any]) -> str:
        recipe, data = card["recipe"], card["data"]
        levels = ", ".join(f"{value:.1%}" for value in card["validation_accuracy_by_noise"])
        return f"""---
license: apache-2.0
---
# {card["name"]}: a classifier of noisy images

Trained by `{card["command"]}`
at the noise levels of `{card["trained_with"]}`, to lead its samples to a class.

- Data: {data["images"]:,} labelled images of {self.dataset}, revision `{data["revision"]}`.
- Recipe: {recipe["images"]:,} images seen in batches of {recipe["batch"]}; all of it in
  `diffcls.json`.
{continued(card)}- Seed {card["seed"]}, {card["hours"]:.2f} hours on {card["device"]},
  {card["versions"]}.
- Validation accuracy from the least noisy fifth of the levels to the noisiest: {levels}.

{curve_table(card["curve"], "mean over the fifths of the noise levels")}
"""

    def report(self, card: dict[str, Any]) -> list[str]:
        levels = ", ".join(f"{value:.1%}" for value in card["validation_accuracy_by_noise"])
        return [
            f"validation accuracy, little noise to much: {levels}",
            f"lead samples with it: python -m diffcls.generate --model {self.recipe.model} "
            f"--guide classifier --guide-model {self.folder} --class NAME",
        ]


def open_led(name: str) -> Denoiser:
    """The diffusion model whose levels are learned.

    Raises:
        ModelError: for one that works on latents: labels of noisy latents are not this one's.
    """
    led = load(name)
    if getattr(led, "autoencoder", None) is not None:
        raise ModelError("the model works on latents", given=name, allowed="a model of pixels")
    return led


@torch.no_grad()
def accuracies(
    model: NoisyClassifier, led: Denoiser, images: Tensor, labels: Tensor
) -> list[float]:
    """Accuracy at levels drawn from each fifth of the schedule, from little noise to much."""
    length = len(led.schedule)
    alpha, sigma = (
        torch.tensor(v, dtype=torch.float32) for v in (led.schedule.alpha, led.schedule.sigma)
    )
    found = []
    for part in range(PARTS):
        rng = generator("noisy validation", part)
        index = torch.randint(
            part * length // PARTS, (part + 1) * length // PARTS, (len(images),), generator=rng
        )
        a, s = (v[index][:, None, None, None] for v in (alpha, sigma))
        x_t = a * images + s * torch.randn(images.shape, generator=rng)
        logits = torch.cat(
            [model(*rows) for rows in zip(x_t.split(256), alpha[index].split(256),
                                          sigma[index].split(256), strict=True)]
        )  # fmt: skip
        found.append(float((logits.argmax(dim=1) == labels).float().mean()))
    return found
