"""Kinds of models that can be trained: one table row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffcls.support.registry import Registry
from diffcls.training import recipe_table


@dataclass(frozen=True)
class ModelKind:
    """Kind of model that can be trained.

    Args:
        recipes: recipes by data set.
        fallback: recipe of every other data set; empty: the kind needs data that no other has.
        splits: splits that its training reads.
        folder: name of the model's folder, with ``{}`` for the data set.
        checks_init: module whose `check_name` checks ``--init``.
        ignores: options of the command that its training does not read, beyond the fields of the
            recipe that it lacks.
    """

    recipes: Mapping[str, Any]
    fallback: str
    splits: tuple[str, ...]
    folder: str
    checks_init: str = "diffcls.models.loading"
    ignores: tuple[str, ...] = ()


KINDS: Mapping[str, ModelKind] = {
    "diffusion": ModelKind(recipe_table.RECIPES, "ANY_RECIPE", ("train", "validation"), "{}"),
    "clip": ModelKind(
        recipe_table.CLIP_RECIPES,
        "ANY_CLIP_RECIPE",
        ("train", "validation"),
        "clip-{}",
        "diffcls.models.clip",
        ("accumulate",),
    ),
    "pixels": ModelKind(
        recipe_table.PIXEL_RECIPES,
        "ANY_PIXEL_RECIPE",
        ("train",),
        "{}-pixels",
        ignores=("points", "without"),
    ),
    "classifier": ModelKind(
        recipe_table.NOISY_RECIPES,
        "ANY_NOISY_RECIPE",
        ("train", "validation"),
        "noisy-{}",
        "diffcls.models.noisy_classifier",
        ("points", "without"),
    ),
    "instruct": ModelKind(
        recipe_table.INSTRUCT_RECIPES, "", ("train",), "{}-instruct", ignores=("without",)
    ),
    "control": ModelKind(
        recipe_table.CONTROL_RECIPES,
        "ANY_CONTROL_RECIPE",
        ("train", "validation"),
        "control-{}",
        "diffcls.models.control_files",
        ("without",),
    ),
}
TRAININGS = Registry(
    "kind of model to train",
    {
        "diffusion": "diffcls.training.latent_diffusion:LatentTraining",
        "clip": "diffcls.training.clip:ClipTraining",
        "pixels": "diffcls.training.pixel_diffusion:PixelTraining",
        "classifier": "diffcls.training.noisy_classifier:NoisyTraining",
        "instruct": "diffcls.training.instruction_editor:InstructTraining",
        "control": "diffcls.training.control:ControlTraining",
    },
)
