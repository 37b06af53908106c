"""Recipes: what `--images` bounds, and recipes that older versions stored."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from diffcls.models import loading
from diffcls.support.errors import UsageError
from diffcls.train import cost_line, parser
from diffcls.training.fine_tuned_recipes import ControlRecipe, InstructRecipe
from diffcls.training.kinds import KINDS
from diffcls.training.options import TrainingOptions, open_training, resolve
from diffcls.training.pixel_diffusion import PixelTraining
from diffcls.training.recipe_options import apply_options
from diffcls.training.recipe_table import CLIP_RECIPES, NOISY_RECIPES, PIXEL_RECIPES, RECIPES
from diffcls.training.recipes import (
    ClipRecipe,
    NoisyRecipe,
    Optimisation,
    PixelRecipe,
    Recipe,
    read_recipe,
)


@pytest.mark.parametrize("images", [2, 100, 54_000, 999_999])
def test_images_bound_autoencoder_and_denoiser_in_the_recipes_proportion(images: int) -> None:
    recipe = RECIPES["digits"]
    _, changed = resolve(TrainingOptions(images=images))
    assert isinstance(changed, Recipe)
    assert changed.vae_images + changed.images == images
    share = recipe.vae_images / (recipe.vae_images + recipe.images)
    assert abs(changed.vae_images - images * share) <= 0.5
    assert changed.autoencoder.images == changed.vae_images


def test_fine_tuning_spends_all_images_on_the_denoiser() -> None:
    options = TrainingOptions(images=500, init="digits")
    changed = apply_options(RECIPES["digits"], vars(options))
    assert changed.images == 500


def test_the_defaults_are_the_settings_that_0_1_trained_with() -> None:
    for recipe in (
        *RECIPES.values(),
        *CLIP_RECIPES.values(),
        *PIXEL_RECIPES.values(),
        *NOISY_RECIPES.values(),
    ):
        assert (recipe.betas, recipe.weight_decay, recipe.gradient_clip) == ((0.9, 0.99), 0.01, 1.0)
        assert recipe.decay == "cosine"
    autoencoder = RECIPES["digits"].autoencoder
    assert (autoencoder.learning_rate, autoencoder.ema, autoencoder.warmup) == (2e-3, 0.995, 0.02)
    assert RECIPES["digits"].kl_weight == 1e-3


def kind_of(name: str) -> type[Optimisation]:
    if name.startswith("clip-"):
        return ClipRecipe
    if name.startswith("noisy-"):
        return NoisyRecipe
    if name.startswith("control-"):
        return ControlRecipe
    if name.endswith("-instruct"):
        return InstructRecipe
    return PixelRecipe if "-pixels" in name else Recipe


@pytest.mark.parametrize("card", sorted(loading.WEIGHTS.glob(f"*/{loading.CARD}")), ids=str)
def test_the_recipe_of_a_bundled_card_can_be_read(card: Path) -> None:
    stored: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))["recipe"]
    recipe = read_recipe(kind_of(card.parent.name), stored)
    written = json.loads(json.dumps(dataclasses.asdict(recipe)))
    config = stored.pop("config", {})
    assert config.items() <= written.get("config", {}).items()
    assert stored.items() <= written.items()  # what it does not name has its default


@pytest.mark.parametrize("card", sorted(loading.WEIGHTS.glob(f"*/{loading.CARD}")), ids=str)
def test_the_command_of_a_bundled_card_has_its_recipe(card: Path) -> None:
    stored = json.loads(card.read_text(encoding="utf-8"))
    if "--recipe" not in stored.get("command", ""):
        pytest.skip("trained by an earlier recipe of its data set")
    given = parser().parse_args(stored["command"].split()[3:])
    _, recipe = resolve(TrainingOptions(**vars(given)))
    assert recipe == read_recipe(kind_of(card.parent.name), stored["recipe"])


def test_a_recipe_that_a_data_set_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="--model clip has one recipe of digits: 'long'"):
        resolve(TrainingOptions(model="clip", recipe="long"))
    with pytest.raises(UsageError, match="did you mean 'long'"):
        resolve(TrainingOptions(dataset="cifar10", recipe="lomg"))


def test_a_training_that_0_1_began_can_be_resumed(tmp_path: Path) -> None:
    recipe = PIXEL_RECIPES["digits"]
    stored = {"dataset": "digits", "seed": 0, **dataclasses.asdict(recipe)}
    for name in ("betas", "weight_decay", "gradient_clip", "decay"):
        del stored[name]
    folder = tmp_path / "digits-pixels" / "training"
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(stored), encoding="utf-8")
    PixelTraining("digits", recipe, 0, tmp_path / "digits-pixels")
    other = dataclasses.replace(recipe, weight_decay=0.1)
    with pytest.raises(UsageError, match="training with another recipe"):
        PixelTraining("digits", other, 0, tmp_path / "digits-pixels")


def test_the_cost_is_known_before_a_training_starts(tmp_path: Path) -> None:
    options = TrainingOptions(images=54_000, output_dir=str(tmp_path))
    line = cost_line(open_training(options))
    assert "54,000 images seen (autoencoder 6,000, denoiser 48,000) in 421 steps" in line
    assert set(KINDS) == {"diffusion", "clip", "pixels", "classifier", "instruct", "control"}
