"""Training of a small pixel-space diffusion model, from the data set to the card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffcls.data.dataset import Dataset
from diffcls.models.json_files import read_json
from diffcls.models.loading import CARD, find, load, read_card
from diffcls.models.quiet import quiet
from diffcls.models.schedulers import scheduler_of
from diffcls.support.seeding import key
from diffcls.training.loop import Loop
from diffcls.training.model_card import pixel_readme
from diffcls.training.noise_levels import LearnedLogSnr
from diffcls.training.pixel_losses import (
    build_unet,
    check,
    check_initial_model,
    learned_schedule,
    load_initial_weights,
    pixels_phase,
    scheduler_config,
)
from diffcls.training.recipes import PixelRecipe
from diffcls.training.run import TrainingRun
from diffcls.training.run_files import SNAPSHOTS
from diffcls.training.stored_images import StoredImages, store


class PixelTraining(TrainingRun):
    """Training of a small DDPM; see `diffcls.training.run.TrainingRun`.

    At each point of the curve it saves two complete models in ``FOLDER/training/snapshots``: with
    the averaged weights, and with those of the last step.
    """

    index: ClassVar[str] = "model_index.json"
    recipe: PixelRecipe

    def __post_init__(self) -> None:
        check(self.recipe)
        self.initial_model: Any = load(self.init) if self.init else None
        if self.initial_model:
            check_initial_model(self.initial_model, self.recipe)
        super().__post_init__()

    def run(self) -> dict[str, Any]:
        train = self.training_data()
        images, labels = pixels_of(train, self.recipe)
        torch.manual_seed(key("weights", self.seed))
        unet = build_unet(self.recipe, len(train.class_names))
        learned = learned_schedule(self.recipe)
        if self.initial_model:
            load_initial_weights(unet, self.initial_model.network.state_dict())
        images, labels = images.to(self._data_device), labels.to(self._data_device)
        loop = self._loop(pixels_phase(unet, learned, images, labels, self.recipe, self.seed))

        def measure(step: int) -> dict[str, float]:
            seen = step * self.recipe.batch
            self._snapshot(unet, learned, loop, train, seen)
            return {"images": seen}

        loop.run(measure, self.points)
        if not self.processes.is_main_process:
            return {}
        save(unet, learned, self.recipe, self.folder)
        return self._write_card(self._facts(train), train, loop.seconds / 3600, "pixels")

    def _facts(self, train: Dataset) -> dict[str, Any]:
        return {
            # class names are looked up in the first
            "trained_on": list(dict.fromkeys([self.dataset, *self.trained_on(train)])),
            "measured_on": self.dataset,
            "labels": list(train.class_names) if self.recipe.conditional else [],
        }

    def _snapshot(
        self, unet: Any, learned: LearnedLogSnr | None, loop: Loop, train: Dataset, seen: int
    ) -> None:
        for kind in ("averaged", "last"):  # the averaged weights are in place first
            if kind == "last":
                loop.ema.swap()
            folder = self.work / SNAPSHOTS / f"{seen:08d}-{kind}"
            save(unet, learned, self.recipe, folder)
            note = "" if kind == "averaged" else " not averaged"
            facts = self._facts(train) | {"weights": kind, "hours": round(loop.seconds / 3600, 3)}
            self._write_snapshot_card(folder, seen, facts, train, note)
            if kind == "last":
                loop.ema.swap()

    def _open_card(self) -> tuple[Mapping[str, Any], str]:
        place = find(str(self.init))
        return read_json(place.path / CARD), read_card(place).revision

    def readme(self, card: dict[str, Any]) -> str:
        return pixel_readme(card)

    def report(self, card: dict[str, Any]) -> list[str]:
        return [
            f"{self.folder}: {card['recipe']['images']:,} images in {card['hours']:.2f} hours",
            f"generate images: python -m diffcls.generate --model {self.folder}",
            f"estimate its likelihood: python -m diffcls.likelihood --model {self.folder}",
        ]


def pixels_of(data: Dataset, recipe: PixelRecipe) -> tuple[StoredImages, Tensor]:
    """All images of a data set with the recipe's channels, and their labels, (N,)."""
    images, labels = store(data, recipe.image_size)
    return StoredImages(images.pixels, is_gray=recipe.channels == 1), torch.tensor(labels)


def save(unet: Any, learned: LearnedLogSnr | None, recipe: PixelRecipe, folder: Path) -> None:
    """Write a ``DDPMPipeline`` folder with weights in half precision."""
    import copy

    from diffusers import DDPMPipeline

    scheduler = scheduler_of(**scheduler_config(recipe, learned))
    with quiet():
        halved = DDPMPipeline(copy.deepcopy(unet).half(), scheduler)
        halved.save_pretrained(folder, safe_serialization=True)
