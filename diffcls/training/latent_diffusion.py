"""A small text-to-image model from a data set to its card: what the train command does."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.data.subsets import choose
from diffcls.diffusion.timestep_allocation import read_allocation
from diffcls.metrics.calibration import fit_temperature
from diffcls.metrics.classification import top_k_accuracy
from diffcls.models.components import read_json
from diffcls.models.denoiser import ModelCard
from diffcls.models.families.stable_diffusion import StableDiffusionDenoiser
from diffcls.models.loading import CARD, find, load, read_card
from diffcls.models.quiet import quiet
from diffcls.models.small_stable_diffusion import build_pipeline, save_half
from diffcls.search.error_table import Search
from diffcls.search.racing import Racing
from diffcls.support.errors import UsageError
from diffcls.support.seeding import key
from diffcls.training.latent_losses import denoiser_phase, make_latents, vae_phase
from diffcls.training.loop import generator
from diffcls.training.recipes import Recipe
from diffcls.training.run import VOCABULARY_CAPTIONS, TrainingRun, continued, curve_table, tensor_of

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from diffcls.models.denoiser import Denoiser

CURVE_DRAWS = 10
TESTED = 500
"""Test images that the finished model is shown; the evaluate command scores all of them."""


class Training(TrainingRun):
    """A small Stable Diffusion in the making; see `diffcls.training.run.TrainingRun`."""

    index: ClassVar[str] = "model_index.json"
    recipe: Recipe

    @property
    def benchmark(self) -> str:
        """The data set that the model is measured on."""
        return self.recipe.measured_on or self.dataset

    def run(self) -> dict[str, Any]:
        train = load_dataset(self.dataset, "train", self.data_root)
        images, labels = tensor_of(train, self.recipe.config.image_size)

        words = self._captions(train, labels)
        torch.manual_seed(key("weights", self.seed))
        if self.init:
            pipeline, seconds = self._open_init(), 0.0
        else:
            vocabulary = [words(i % len(labels), -1 - i) for i in range(VOCABULARY_CAPTIONS)]
            pipeline = build_pipeline(self.recipe.config, vocabulary)
            vae_loop = self._loop(vae_phase(pipeline.vae, images, self.recipe, self.seed))
            vae_loop.run()
            seconds = vae_loop.seconds
        latents = make_latents(pipeline.vae, images, self.recipe, self.seed)
        scale = float(pipeline.vae.config.scaling_factor) if self.init else 1 / float(latents.std())
        pipeline.vae.register_to_config(scaling_factor=scale)
        phase = denoiser_phase(pipeline, latents * scale, words, self.recipe, self.seed)
        loop = self._loop(phase)
        loop.run(lambda step: self._measure(pipeline, step * self.recipe.batch))
        if not self.team.leads:
            return {}
        save_half(pipeline, self.folder)
        return self._finish(train, (seconds + loop.seconds) / 3600)

    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        place = find(str(self.init))
        return read_json(place.path / CARD), read_card(place).revision

    def _open_init(self) -> StableDiffusionPipeline:
        """The pipeline that training goes on from, in single precision.

        Raises:
            UsageError: where it is none of the recipe's shape, which its autoencoder tells.
        """
        from diffusers import StableDiffusionPipeline

        folder = find(str(self.init)).path
        with quiet():
            pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        shape = pipeline.vae.config.sample_size, pipeline.vae.config.latent_channels
        wanted = self.recipe.config.image_size, self.recipe.config.latent_channels
        if shape != wanted:
            raise UsageError("--init is a model of another shape", given=shape, allowed=wanted)
        return pipeline

    def _measure(self, pipeline: StableDiffusionPipeline, images_seen: int) -> dict[str, float]:
        """A point of the curve: accuracy on some validation images, every class on a few draws."""
        # a copy: the denoiser lays the weights out anew, and training must not depend on when
        # somebody looked
        parts = {name: copy.deepcopy(part) for name, part in pipeline.components.items()}
        looked_at = type(pipeline)(**parts, requires_safety_checker=False)
        card = ModelCard("in training", "", allocation=read_allocation(self.recipe.allocation))
        denoiser = StableDiffusionDenoiser(looked_at, card)
        _, accuracy, _ = classify(
            denoiser,
            self.benchmark,
            "validation",
            Racing(CURVE_DRAWS),
            self.data_root,
            self.seed,
            limit=100,
        )
        return {"images": images_seen, "validation_accuracy": accuracy}

    def _finish(self, train: Any, hours: float) -> dict[str, Any]:
        denoiser = load(str(self.folder))
        facts = {
            "trained_on": self.trained_on(train),
            "measured_on": catalog.find(self.benchmark).name,
            **calibrate(denoiser, self.dataset, self.recipe, self.data_root, self.seed),
        }
        return self._write_card(facts, train, hours, "denoiser")

    def readme(self, card: dict[str, Any]) -> str:
        return model_card(card)

    def report(self, card: dict[str, Any]) -> list[str]:
        if not catalog.find(self.benchmark).splits:
            # a person's own images: nobody knows which of them are a test
            return [f"{self.folder}: validation accuracy {card['validation_accuracy']:.1%}"]
        denoiser = load(str(self.folder))
        _, accuracy, labels = classify(
            denoiser, self.benchmark, "test", Racing(), self.data_root, self.seed, TESTED
        )
        return [
            f"samples of {self.folder}:",
            *samples(str(self.folder), self.benchmark),
            f"validation accuracy {card['validation_accuracy']:.1%} (chosen on)",
            f"test accuracy {accuracy:.1%} on {len(labels)} held-out images",
            f"evaluate it: python -m diffcls.evaluate --dataset {self.benchmark} "
            f"--model {self.folder}",
        ]


def classify(
    denoiser: Denoiser,
    benchmark: str,
    split: str,
    search: Search,
    data_root: str | None = None,
    seed: int = 0,
    limit: int | None = None,
) -> tuple[np.ndarray, float, list[int]]:
    """(n, K) scores, accuracy and labels of a split of a benchmark, with its own prompts."""
    from diffcls.classifiers.diffusion import DiffusionMethod

    data, _ = choose(load_dataset(benchmark, split, data_root), limit)
    templates = ("{}",) if data.sentences else catalog.find(benchmark).templates
    asked = len(data.items[0].candidates)
    prompts = PromptSet.from_templates(data.class_names, templates, data.prompt_names, asked)
    allocation = denoiser.card.allocation
    method = DiffusionMethod(denoiser, prompts, search, seed=seed, allocation=allocation)
    found = {answer.image_id: answer for answer in method.classify(data.items)}
    answers = [found[item.image_id] for item in data.items]
    labels = [item.label for item in data.items]
    accuracy = top_k_accuracy([a.ranking for a in answers], labels)
    return np.stack([a.scores for a in answers]), accuracy, labels


def calibrate(
    denoiser: Denoiser, dataset: str, recipe: Recipe, data_root: str | None = None, seed: int = 0
) -> dict[str, Any]:
    """What a card says of all validation images, scored as a user's would be by default."""
    allocation = read_allocation(recipe.allocation)
    denoiser.card = dataclasses.replace(denoiser.card, allocation=allocation)
    benchmark = recipe.measured_on or dataset
    scores, accuracy, labels = classify(
        denoiser, benchmark, "validation", Racing(), data_root, seed
    )
    dimensions = float(np.prod(denoiser.sample_shape))
    return {
        "allocation": recipe.allocation,
        "temperature": float(f"{fit_temperature(scores, labels, dimensions):.4g}"),
        "validation_accuracy": accuracy,
    }


def model_card(card: dict[str, Any]) -> str:
    """The model's README, from its card."""
    recipe, data, name = card["recipe"], card["data"], card["name"]
    seen = ", ".join(card["trained_on"])
    # cards from before commands were noted name what decides the weights beside the recipe
    plain = f"python -m diffcls.train --dataset {name} --seed {card['seed']}"
    command = card.get("command", plain)
    measured = f"100 validation images, {CURVE_DRAWS} draws at most"
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
license: apache-2.0
---
# {name}: a small text-to-image diffusion model

A `StableDiffusionPipeline` of {recipe["config"]["image_size"]} px, trained from nothing by
`{command}`.

**Trained on the training split of {name}, with its labels in words.** As a classifier of {seen} it
is therefore not zero-shot.

- Data: {data["images"]:,} images of {name}, split `{data["split"]}`, revision `{data["revision"]}`.
- Recipe: {recipe["images"]:,} images seen in batches of {recipe["batch"]}, learning rate
  {recipe["learning_rate"]:g}, {recipe["copies"]} augmented copies of each image, prompt dropout
  {recipe["prompt_dropout"]:g}, EMA {recipe["ema"]:g}, `{recipe["config"]["prediction_type"]}`; all
  of it in `diffcls.json`.
{continued(card)}- Seed {card["seed"]}, {card["hours"]:.2f} hours on {card["device"]},
  {card["versions"]}.
- Validation accuracy {card["validation_accuracy"]:.1%} on {card["measured_on"]} with racing;
  temperature of the posterior {card["temperature"]:g}, fitted on the validation images. Draws lie
  in time where classes differed on `{card["allocation"]}`.

{curve_table(card["curve"], measured)}
"""


def samples(folder: str, dataset: str, a_row: int = 5) -> list[str]:
    """One sample of each of the first ten classes, drawn in characters."""
    from diffusers import StableDiffusionPipeline

    spec = catalog.find(dataset)
    names = load_dataset(dataset, "validation").class_names[:10]
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        images = pipeline(
            [spec.templates[0].replace("{}", name) for name in names],
            num_inference_steps=50,
            guidance_scale=2.0,
            generator=[generator("sample", name) for name in names],
            output_type="np",
        ).images  # (K, H, W, 3) in 0–1
    lines: list[str] = []
    for start in range(0, len(names), a_row):
        drawn = [draw_text(image.mean(axis=-1)) for image in images[start : start + a_row]]
        lines.append("  ".join(f"{name:^14.14}" for name in names[start : start + a_row]))
        lines.extend("  ".join(parts) for parts in zip(*drawn, strict=True))
    return lines


def draw_text(image: np.ndarray, columns: int = 14, rows: int = 8) -> list[str]:
    """An image (H, W) in 0–1 as lines of characters, for a terminal."""
    shades = " .:-=+*#%@"
    height, width = image.shape
    lines = []
    for r in range(rows):
        cells = []
        for c in range(columns):
            y, x = int((r + 0.5) * height / rows), int((c + 0.5) * width / columns)
            cells.append(shades[min(9, int(image[y, x] * 10))])
        lines.append("".join(cells))
    return lines
