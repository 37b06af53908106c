"""Training of a small latent text-to-image model, from the data set to the card."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.diffusion.timestep_allocation import read_allocation
from diffcls.metrics.calibration import fit_temperature
from diffcls.models.denoiser import ModelCard
from diffcls.models.families.stable_diffusion import StableDiffusionDenoiser
from diffcls.models.json_files import read_json
from diffcls.models.loading import CARD, find, load, read_card
from diffcls.models.quiet import quiet
from diffcls.models.small_stable_diffusion import build_pipeline, save_half
from diffcls.support.errors import UsageError
from diffcls.support.seeding import key
from diffcls.training.latent_losses import (
    denoiser_phase,
    image_weights,
    make_latents,
    vae_phase,
)
from diffcls.training.loop import generator
from diffcls.training.model_card import text_to_image_readme
from diffcls.training.recipes import Optimisation, Recipe
from diffcls.training.run import VOCABULARY_CAPTIONS, TrainingRun
from diffcls.training.run_files import SNAPSHOTS
from diffcls.training.stored_images import store
from diffcls.training.validation import Validate, Validators

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from diffcls.models.denoiser import Denoiser


class LatentTraining(TrainingRun):
    """Training of a small Stable Diffusion; see `diffcls.training.run.TrainingRun`."""

    index: ClassVar[str] = "model_index.json"
    recipe: Recipe

    @property
    def benchmark(self) -> str:
        """Data set that the model is validated on."""
        return self.recipe.measured_on or self.dataset

    @property
    def _validators(self) -> Validators:
        if self.validators is None:
            raise ValueError("the training of a text-to-image model needs validators")
        return self.validators

    def cost(self) -> dict[str, Optimisation]:
        autoencoder = {} if self.init else {"autoencoder": self.recipe.autoencoder}
        return {**autoencoder, "denoiser": self.recipe}

    def run(self) -> dict[str, Any]:
        train = self.training_data()
        images, labels = store(train, self.recipe.config.image_size)
        device = self._data_device

        words = self._captions(train, labels)
        torch.manual_seed(key("weights", self.seed))
        if self.init:
            pipeline, seconds = self._open_init(), 0.0
        else:
            vocabulary = [words(i % len(labels), -1 - i) for i in range(VOCABULARY_CAPTIONS)]
            pipeline = build_pipeline(self.recipe.config, vocabulary)
            vae_loop = self._loop(vae_phase(pipeline.vae, images, self.recipe, self.seed, device))
            vae_loop.run()
            seconds = vae_loop.seconds
        latents = make_latents(pipeline.vae, images, self.recipe, self.seed, device)
        scale = float(pipeline.vae.config.scaling_factor) if self.init else 1 / float(latents.std())
        pipeline.vae.register_to_config(scaling_factor=scale)
        captions = self._caption_batches(pipeline.tokenizer, words, labels)
        weights = image_weights([train.class_names[i] for i in labels], self.recipe.emphasis)
        phase = denoiser_phase(pipeline, latents * scale, captions, self.recipe, self.seed, weights)
        loop = self._loop(phase)
        loop.run(lambda step: self._measure(pipeline, step * self.recipe.batch, train), self.points)
        if not self.processes.is_main_process:
            return {}
        save_half(pipeline, self.folder)
        return self._finish(train, (seconds + loop.seconds) / 3600)

    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        place = find(str(self.init))
        return read_json(place.path / CARD), read_card(place).revision

    def _open_init(self) -> StableDiffusionPipeline:
        """The pipeline that is fine-tuned, in single precision.

        Raises:
            UsageError: unless image size and latent channels are the recipe's.
        """
        from diffusers import StableDiffusionPipeline

        folder = find(str(self.init)).path
        with quiet():
            pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        shape = pipeline.vae.config.sample_size, pipeline.vae.config.latent_channels
        expected = self.recipe.config.image_size, self.recipe.config.latent_channels
        if shape != expected:
            raise UsageError(
                "--init names a model of another shape", given=shape, allowed=f"{expected}"
            )
        return pipeline

    def _measure(
        self, pipeline: StableDiffusionPipeline, images_seen: int, train: Dataset
    ) -> dict[str, float]:
        """Validation accuracy, for a point of the curve; the model so far becomes a snapshot."""
        snapshot = self.work / SNAPSHOTS / f"{images_seen:08d}"
        save_half(pipeline, snapshot)
        facts = {**self._facts(train), "allocation": self.recipe.allocation}
        self._write_snapshot_card(snapshot, images_seen, facts, train)
        # a copy: the denoiser changes the memory format of the weights, and training must not
        # depend on when it was validated
        parts = {name: copy.deepcopy(part) for name, part in pipeline.components.items()}
        copied = type(pipeline)(**parts, requires_safety_checker=False)
        card = ModelCard("in training", "", allocation=read_allocation(self.recipe.allocation))
        denoiser = StableDiffusionDenoiser(copied, card, self.processes.device)
        accuracy = self._validators.curve(denoiser, "validation").accuracy
        return {"images": images_seen, "validation_accuracy": accuracy}

    def _facts(self, train: Dataset) -> dict[str, Any]:
        return {
            "trained_on": self.trained_on(train),
            "measured_on": catalog.find(self.benchmark).name,
        }

    def _finish(self, train: Dataset, hours: float) -> dict[str, Any]:
        denoiser = load(str(self.folder), self.processes.device, torch.float32)
        facts = {
            **self._facts(train),
            **calibrate(denoiser, self.recipe, self._validators.finished),
        }
        return self._write_card(facts, train, hours, "denoiser")

    def readme(self, card: dict[str, Any]) -> str:
        return text_to_image_readme(card)

    def report(self, card: dict[str, Any]) -> list[str]:
        if not catalog.find(self.benchmark).splits:
            # user data: no test split is declared
            return [f"{self.folder}: validation accuracy {card['validation_accuracy']:.1%}"]
        denoiser = load(str(self.folder))
        test = self._validators.finished(denoiser, "test")
        known = load_dataset(self.benchmark, "validation", self.data_root).class_names
        names = [name for name in known if name not in self.without]
        return [
            f"samples of {self.folder}:",
            *samples(str(self.folder), names[:10], catalog.find(self.benchmark).templates[0]),
            f"validation accuracy {card['validation_accuracy']:.1%} (used for calibration)",
            f"test accuracy {test.accuracy:.1%} on {len(test.labels)} held-out images",
            f"evaluate it: python -m diffcls.evaluate --dataset {self.benchmark} "
            f"--model {self.folder}",
        ]


def calibrate(denoiser: Denoiser, recipe: Recipe, validate: Validate) -> dict[str, Any]:
    """Allocation, temperature and validation accuracy of a finished model, for its card."""
    allocation = read_allocation(recipe.allocation)
    denoiser.card = dataclasses.replace(denoiser.card, allocation=allocation)
    result = validate(denoiser, "validation")
    dimensions = float(np.prod(denoiser.sample_shape))
    temperature = fit_temperature(result.scores, list(result.labels), dimensions)
    return {
        "allocation": recipe.allocation,
        "temperature": float(f"{temperature:.4g}"),
        "validation_accuracy": result.accuracy,
    }


def samples(folder: str, names: Sequence[str], template: str, per_row: int = 5) -> list[str]:
    """One generated image of each class, as text art.

    Args:
        folder: folder of the model.
        names: names of the classes.
        template: prompt template with ``{}``.
        per_row: images beside each other.
    """
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        images = pipeline(
            [template.replace("{}", name) for name in names],
            num_inference_steps=50,
            guidance_scale=2.0,
            generator=[generator("sample", name) for name in names],
            output_type="np",
        ).images  # (K, H, W, 3) in 0–1
    lines: list[str] = []
    for start in range(0, len(names), per_row):
        pictures = [text_art(image.mean(axis=-1)) for image in images[start : start + per_row]]
        lines.append("  ".join(f"{name:^14.14}" for name in names[start : start + per_row]))
        lines.extend("  ".join(parts) for parts in zip(*pictures, strict=True))
    return lines


def text_art(image: np.ndarray, columns: int = 14, rows: int = 8) -> list[str]:
    """An image (H, W) in 0 to 1 as `rows` lines of `columns` characters."""
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
