"""Training of a ControlNet that steers a text-to-image model by edges (Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from diffcls.data import edges
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.models import control_files
from diffcls.models.denoiser import Denoiser
from diffcls.models.families.stable_diffusion import StableDiffusionDenoiser
from diffcls.models.json_files import read_json
from diffcls.models.loading import CARD, load
from diffcls.support.errors import ModelError, UsageError
from diffcls.support.seeding import key
from diffcls.training.control_losses import (
    Examples,
    build_control_net,
    check_embedding,
    control_phase,
    validation_losses,
)
from diffcls.training.fine_tuned_recipes import ControlRecipe
from diffcls.training.model_card import control_readme
from diffcls.training.run import TrainingRun
from diffcls.training.run_files import LEAD
from diffcls.training.stored_images import store

WEIGHTS = "diffusion_pytorch_model.safetensors"
IMAGES_PER_BATCH = 256
"""Images that are encoded together."""
VALIDATION_IMAGES = 500


class ControlTraining(TrainingRun):
    """Training of a ControlNet; see `diffcls.training.run.TrainingRun`."""

    index: ClassVar[str] = WEIGHTS
    recipe: ControlRecipe

    def __post_init__(self) -> None:
        edges.open_cv()
        self.steered: Any = open_steered(self.recipe.model, self.processes.device)
        check_embedding(self.recipe, self.steered)
        super().__post_init__()

    def _plan(self) -> dict[str, Any]:
        return {**super()._plan(), LEAD: self.steered.card.revision}

    def run(self) -> dict[str, Any]:
        train, steered = first(self.training_data(), self.recipe.examples), self.steered
        images, labels = self._examples(train)
        own = load_dataset(self.dataset, "validation", self.data_root)
        own = first(own, VALIDATION_IMAGES)
        validation, named = self._examples(own)
        words = self._captions(own, named)
        text = steered.encode_prompts([words(i, -1 - i) for i in range(len(named))])["text"]
        torch.manual_seed(key("weights", self.seed))
        control = build_control_net(steered.network, self.recipe)
        if self.init:
            load_initial_weights(control, str(self.init))
        words = self._captions(train, labels)
        captions = self._caption_batches(steered.pipeline.tokenizer, words, labels)
        loop = self._loop(control_phase(control, steered, images, captions, self.recipe, self.seed))

        def measure(step: int) -> dict[str, float]:
            # a copy: the loop keeps the ControlNet on the CPU meanwhile
            copied = deepcopy(control).to(self.processes.device)
            losses = validation_losses(copied, steered, validation, text, self.recipe)
            return {"images": step * self.recipe.batch, **losses}

        loop.run(measure, self.points)
        if not self.processes.is_main_process:
            return {}
        control.half().save_pretrained(self.folder, safe_serialization=True)
        facts = {
            "trained_on": self.trained_on(train),
            "trained_with": steered.card.name,
            LEAD: steered.card.revision,
        }
        return self._write_card(facts, train, loop.seconds / 3600, "control")

    def _examples(self, data: Dataset) -> tuple[Examples, list[int]]:
        """Latents and maps of all images, on the device of the data; and their labels."""
        images, labels = store(data, self.steered.image_size)
        latents, maps = [], []
        for start in range(0, len(images), IMAGES_PER_BATCH):
            pixels = images[slice(start, start + IMAGES_PER_BATCH)]
            latents.append(self.steered.encode_images(pixels).to(self._data_device))
            of_each = (edges.edge_map(self.recipe.control, one) for one in pixels.numpy())
            maps += [np.rint(255 * one[0]).astype(np.uint8) for one in of_each]
        # a copy: inference tensors cannot be differentiated
        stored = torch.from_numpy(np.stack(maps)).to(self._data_device)
        return Examples(torch.cat(latents).clone(), stored), labels

    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        files = control_files.find(str(self.init))
        return read_json(files.path / CARD), files.revision

    def readme(self, card: dict[str, Any]) -> str:
        return control_readme(card)

    def report(self, card: dict[str, Any]) -> list[str]:
        last = card["curve"][-1]
        return [
            f"validation loss {last['validation_loss']:.4f} with the edges, "
            f"{last['plain_validation_loss']:.4f} of {self.recipe.model} alone",
            f"samples with it: python -m diffcls.generate --model {self.recipe.model} "
            f"--control IMAGE --control-model {self.folder}",
            f"classification given the edges: python -m diffcls.evaluate --dataset DATASET "
            f"--model {self.recipe.model} --control {self.recipe.control} "
            f"--control-model {self.folder}",
        ]


def first(data: Dataset, count: int) -> Dataset:
    """The first images of a data set; 0: all."""
    return replace(data, items=data.items[: count or None])


def open_steered(name: str, device: str) -> Denoiser:
    """The text-to-image model that a ControlNet steers.

    Raises:
        ModelError: for a model of another family than Stable Diffusion.
    """
    steered = load(name, device, torch.float32)
    if type(steered) is not StableDiffusionDenoiser:
        raise ModelError(
            "--lead needs a Stable Diffusion of one text encoder",
            given=f"{name}, {type(steered).__name__.removesuffix('Denoiser')}",
            todo="choose one that `diffcls train --model diffusion` trained",
        )
    return steered


def load_initial_weights(control: Any, name: str) -> None:
    """Replace the weights by those of a trained ControlNet.

    Raises:
        UsageError: for one of another shape.
    """
    trained = control_files.open_files(control_files.find(name), torch.float32)
    try:
        control.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        raise UsageError(
            "--init names a ControlNet of another shape",
            given=name,
            todo="choose one that was trained with the same --lead",
        ) from error
