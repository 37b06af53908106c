"""A small text-to-image model from a data set to its card: what the train command does."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from diffcls.atomic import write_text
from diffcls.data import sources, specs
from diffcls.data.captions import caption
from diffcls.data.dataset import Dataset
from diffcls.data.subsets import choose
from diffcls.denoiser import ModelCard
from diffcls.draws import key
from diffcls.errors import UsageError
from diffcls.metrics import fit_temperature, top_k_accuracy
from diffcls.models.diffusers_unet import StableDiffusionDenoiser
from diffcls.models.loading import CARD, load
from diffcls.models.tiny import build_pipeline, save_half
from diffcls.prompts import PromptSet
from diffcls.provenance import clock, describe_device, versions
from diffcls.recipes import Recipe
from diffcls.search.racing import Racing
from diffcls.search.table import Search
from diffcls.training import Loop, denoiser_phase, make_latents, vae_phase
from diffcls.transforms import load_image, to_pixels

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from diffcls.denoiser import Denoiser

VOCABULARY_CAPTIONS = 20_000
CURVE_DRAWS = 10


@dataclass
class Training:
    """One model in the making.

    Args:
        dataset: name of the data set; its training split is learned, with its labels as captions.
        recipe: everything that decides the weights, but for the seed.
        seed: of the weights and of every random choice.
        folder: where the pipeline goes; checkpoints and curves lie in ``FOLDER/training``.
        data_root: where local data lie.
        quiet: no progress bar.

    Raises:
        UsageError: when the folder holds a finished model, or one begun with another recipe.
    """

    dataset: str
    recipe: Recipe
    seed: int
    folder: Path
    data_root: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        self.work = self.folder / "training"
        # the card is written last: without it a model of ours is not finished yet
        ours = (self.work / "recipe.json").exists() and not (self.folder / CARD).exists()
        if (self.folder / "model_index.json").exists() and not ours:
            raise UsageError(
                "there is a finished model already",
                given=str(self.folder),
                todo="choose another --output-dir, or move it away",
            )
        plan = {"dataset": self.dataset, "seed": self.seed, **dataclasses.asdict(self.recipe)}
        plan = json.loads(json.dumps(plan))
        path = self.work / "recipe.json"
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"cannot write to the output folder ({error.strerror})",
                given=str(self.folder),
                todo="choose another --output-dir",
            ) from error
        begun = json.loads(path.read_text(encoding="utf-8"))
        if begun != plan:
            changed = sorted(k for k in {*begun, *plan} if begun.get(k) != plan.get(k))
            raise UsageError(
                "a training with another recipe was begun here",
                given={k: plan.get(k) for k in changed},
                allowed=f"{ {k: begun.get(k) for k in changed} }",
                todo="go on with that, or choose another --output-dir",
            )

    @property
    def benchmark(self) -> str:
        """The data set that the model is measured on."""
        return self.recipe.measured_on or self.dataset

    def run(self) -> dict[str, Any]:
        """Train to the end, or from the last checkpoint to the end; then write model and card."""
        train = sources.load(self.dataset, "train", self.data_root)
        images, labels = tensor_of(train, self.recipe.config.image_size)

        def words(index: int, draw: int) -> str:
            label = labels[index]
            return caption(self.dataset, label, self.seed, draw, train.class_names[label])

        torch.manual_seed(key("weights", self.seed))
        vocabulary = [words(i % len(labels), -1 - i) for i in range(VOCABULARY_CAPTIONS)]
        pipeline = build_pipeline(self.recipe.config, vocabulary)
        vae_loop = self._loop(vae_phase(pipeline.vae, images, self.recipe, self.seed))
        vae_loop.run()
        latents = make_latents(pipeline.vae, images, self.recipe, self.seed)
        scale = 1.0 / float(latents.std())
        pipeline.vae.register_to_config(scaling_factor=scale)
        phase = denoiser_phase(pipeline, latents * scale, words, self.recipe, self.seed)
        loop = self._loop(phase)
        loop.run(lambda step: self._measure(pipeline, step * self.recipe.batch))
        save_half(pipeline, self.folder)
        return self._write_card(train, (vae_loop.seconds + loop.seconds) / 3600)

    def _loop(self, phase: Any) -> Loop:
        return Loop(phase, self.work, quiet=self.quiet)

    def _measure(self, pipeline: StableDiffusionPipeline, images_seen: int) -> dict[str, float]:
        """A point of the curve: accuracy on some validation images, every class on a few draws."""
        # a copy: the denoiser lays the weights out anew, and training must not depend on when
        # somebody looked
        parts = {name: copy.deepcopy(part) for name, part in pipeline.components.items()}
        looked_at = type(pipeline)(**parts, requires_safety_checker=False)
        denoiser = StableDiffusionDenoiser(looked_at, ModelCard("in training", ""))
        _, accuracy, _ = self.classify(denoiser, "validation", Racing(CURVE_DRAWS), limit=100)
        return {"images": images_seen, "validation_accuracy": accuracy}

    def classify(
        self, denoiser: Denoiser, split: str, search: Search, limit: int | None = None
    ) -> tuple[np.ndarray, float, list[int]]:
        """(n, K) scores, accuracy and labels of a split of the benchmark, with its own prompts."""
        from diffcls.methods.diffusion import DiffusionMethod

        data, _ = choose(sources.load(self.benchmark, split, self.data_root), limit)
        templates = specs.find(self.benchmark).templates
        prompts = PromptSet.from_templates(data.class_names, templates)
        method = DiffusionMethod(denoiser, prompts, search, seed=self.seed)
        found = {answer.image_id: answer for answer in method.classify(data.items)}
        answers = [found[item.image_id] for item in data.items]
        labels = [item.label for item in data.items]
        accuracy = top_k_accuracy([a.ranking for a in answers], labels)
        return np.stack([a.scores for a in answers]), accuracy, labels

    def _write_card(self, train: Dataset, hours: float) -> dict[str, Any]:
        denoiser = load(str(self.folder))
        scores, accuracy, labels = self.classify(denoiser, "validation", Racing())
        dimensions = float(np.prod(denoiser.sample_shape))
        card = {
            "name": self.dataset,
            "trained_on": list(self.recipe.teaches or [self.dataset]),
            "measured_on": self.benchmark,
            "temperature": float(f"{fit_temperature(scores, labels, dimensions):.4g}"),
            "data": {"split": "train", "images": len(train), "revision": train.revision},
            "validation_accuracy": accuracy,
            "seed": self.seed,
            "hours": round(hours, 3),
            "device": describe_device("cpu"),
            "versions": versions(),
            "date": clock(),
            "recipe": json.loads(json.dumps(dataclasses.asdict(self.recipe))),
            "curve": _curve(self.work / "denoiser-curve.jsonl"),
        }
        text = json.dumps(card, indent=2, allow_nan=False) + "\n"
        (self.folder / "README.md").write_text(model_card(card), encoding="utf-8")
        write_text(self.folder / CARD, text)
        return card


def tensor_of(data: Dataset, size: int) -> tuple[Tensor, list[int]]:
    """All images of a data set as one tensor (N, 3, size, size) in [−1, 1], and their labels."""
    pixels = [to_pixels(load_image(item.open()), size) for item in data.items]
    return torch.from_numpy(np.stack(pixels)), [item.label for item in data.items]


def _curve(path: Path) -> list[dict[str, float]]:
    """The points of a curve; a run that was cut off may have noted a step twice."""
    points: dict[float, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        point = json.loads(line)
        points[point["step"]] = point
    return [points[step] for step in sorted(points)]


def model_card(card: dict[str, Any]) -> str:
    """The model's README, from its card."""
    recipe, data, name = card["recipe"], card["data"], card["name"]
    seen = ", ".join(card["trained_on"])
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
license: apache-2.0
---
# {name}: a small text-to-image diffusion model

A `StableDiffusionPipeline` of {recipe["config"]["image_size"]} px, trained from nothing by
`python -m diffcls.train --dataset {name} --seed {card["seed"]}`.

**Trained on the training split of {name}, with its labels in words.** As a classifier of {seen} it
is therefore not zero-shot.

- Data: {data["images"]:,} images of {name}, split `{data["split"]}`, revision `{data["revision"]}`.
- Recipe: {recipe["images"]:,} images seen in batches of {recipe["batch"]}, learning rate
  {recipe["learning_rate"]:g}, {recipe["copies"]} augmented copies of each image, prompt dropout
  {recipe["prompt_dropout"]:g}, EMA {recipe["ema"]:g}, `{recipe["config"]["prediction_type"]}`; all
  of it in `diffcls.json`.
- Seed {card["seed"]}, {card["hours"]:.2f} hours on {card["device"]}, {card["versions"]}.
- Validation accuracy {card["validation_accuracy"]:.1%} on {card["measured_on"]} with racing;
  temperature of the posterior {card["temperature"]:g}, fitted on the validation images.

{_table(card["curve"])}
"""


def _table(curve: list[dict[str, float]]) -> str:
    """The points of a curve as a Markdown table, of what was measured at each of them."""
    columns = {
        "images": ("images seen", "{:,.0f}"),
        "loss": ("training loss", "{:.4f}"),
        "validation_accuracy": (f"accuracy, 100 validation images, {CURVE_DRAWS} draws", "{:.1%}"),
    }
    shown = [name for name in columns if all(name in point for point in curve)]
    lines = [[columns[name][0] for name in shown], ["---"] * len(shown)]
    lines += [[columns[name][1].format(point[name]) for name in shown] for point in curve]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


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
