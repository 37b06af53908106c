"""Recipe of each data set and kind of model: one row each.

A row named ``NAME-long`` is for a GPU: a model of data set NAME that sees many more images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffcls.models.small_stable_diffusion import TinyConfig
from diffcls.training.fine_tuned_recipes import ControlRecipe, InstructRecipe
from diffcls.training.recipes import (
    Augmentation,
    ClipRecipe,
    NoisyRecipe,
    PixelRecipe,
    Recipe,
)

# shape of the models that a GPU trains: 129 MFLOP an evaluation
LONG_CONFIG = TinyConfig(
    latent_channels=8, vae_channels=(32, 64, 64), unet_channels=(56, 112), text_causal=False
)
# data and captions on the device, mixed precision, compiled
LONG: Mapping[str, Any] = {
    "batch": 1024,
    "learning_rate": 1.5e-3,
    "precision": "bfloat16",
    "on_device": True,
    "compiled": True,
}
LONG_DIFFUSION: Mapping[str, Any] = {
    **LONG,
    "config": LONG_CONFIG,
    "vae_images": 1_000_000,
    "vae_batch": 512,
    "ema": 0.9995,
}
FASHION_LONG = Recipe(
    **LONG_DIFFUSION,
    allocation="cifar10-long",
    augmentation=Augmentation(scale=0.05, shift=0.04, flip=True),
    copies=12,
    images=2_582_528,
    caption_pool=2000,
)
SCENE_TASKS = (
    "scenes/attributes",
    "scenes/relations",
    "scenes/counting",
    "scenes/pairs",
    "scenes:*",
)
# scenes of two and three objects are drawn twice as often
SCENES_EMPHASIS = dict.fromkeys(("two", "three", "left of", "right of", "above", "below"), 2.0)

RECIPES: Mapping[str, Recipe] = {
    "digits": Recipe(
        augmentation=Augmentation(
            degrees=10, scale=0.1, shear=0.1, shift=0.06, warp=0.02, contrast=0.15
        ),
        copies=40,
        vae_images=60_000,
        images=480_000,
    ),
    "fashion_mnist": Recipe(
        config=TinyConfig(latent_channels=8),
        augmentation=Augmentation(scale=0.05, shift=0.04, flip=True),
        copies=4,
        vae_images=80_000,
        images=640_000,
    ),
    "cifar10": Recipe(
        allocation="fashion_mnist",
        config=TinyConfig(latent_channels=8),
        augmentation=Augmentation(scale=0.05, shift=0.06, flip=True),
        copies=4,
        vae_images=80_000,
        images=900_000,
    ),
    "scenes": Recipe(
        config=TinyConfig(latent_channels=8),
        vae_images=100_000,
        images=800_000,
        teaches=SCENE_TASKS,  # never the held-out combinations
        measured_on="scenes/attributes",
    ),
    "fashion_mnist-long": FASHION_LONG,
    # two smaller U-Nets, for the scaling curve
    "fashion_mnist-long-small": replace(
        FASHION_LONG, config=replace(LONG_CONFIG, unet_channels=(24, 48)), images=1_840_128
    ),
    "fashion_mnist-long-middle": replace(
        FASHION_LONG, config=replace(LONG_CONFIG, unet_channels=(40, 80)), images=2_065_408
    ),
    "cifar10-long": Recipe(
        **LONG_DIFFUSION,
        allocation="fashion_mnist",
        augmentation=Augmentation(scale=0.05, shift=0.06, flip=True),
        copies=12,
        images=2_696_192,
        caption_pool=2000,
    ),
    "scenes-long": Recipe(
        **LONG_DIFFUSION,
        images=2_373_632,
        caption_pool=24,
        emphasis=SCENES_EMPHASIS,
        lateness=5.0,
        teaches=SCENE_TASKS,
        measured_on="scenes/attributes",
    ),
}

# at least as many images as the diffusion model of the same data set has seen
CLIP_RECIPES: Mapping[str, ClipRecipe] = {
    "digits": ClipRecipe(image_size=32, images=480_000),
    "fashion_mnist": ClipRecipe(image_size=32, images=640_000),
    "cifar10": ClipRecipe(image_size=48, images=900_000),
    "scenes": ClipRecipe(image_size=48, images=800_000),
    "fashion_mnist-long": ClipRecipe(**LONG, image_size=32, images=4_155_392, caption_pool=2000),
    "cifar10-long": ClipRecipe(**LONG, image_size=48, images=3_023_872, caption_pool=2000),
    "scenes-long": ClipRecipe(**LONG, image_size=48, images=2_561_024, caption_pool=24),
}

PIXEL_RECIPES: Mapping[str, PixelRecipe] = {
    "digits": PixelRecipe(image_size=8, widths=(32, 64), flip=False, images=400_000),
    "fashion_mnist": PixelRecipe(),
    "cifar10": PixelRecipe(image_size=32, channels=3, widths=(48, 96, 96)),
}

NOISY_RECIPES: Mapping[str, NoisyRecipe] = {
    "digits": NoisyRecipe(model="digits-pixels", widths=(32, 64), flip=False, images=200_000),
    "fashion_mnist": NoisyRecipe(model="fashion_mnist-pixels"),
    "cifar10": NoisyRecipe(model="cifar10-pixels"),
}

INSTRUCT_RECIPES: Mapping[str, InstructRecipe] = {"scenes": InstructRecipe()}
CONTROL_RECIPES: Mapping[str, ControlRecipe] = {
    "scenes": ControlRecipe(model="scenes", examples=6_000, images=19_200, caption_pool=24)
}

# recipes of user data and of every data set without a row
ANY_RECIPE = Recipe(config=TinyConfig(latent_channels=8))
ANY_CLIP_RECIPE = ClipRecipe()
ANY_PIXEL_RECIPE = PixelRecipe(image_size=32, channels=3, widths=(48, 96, 96))
ANY_NOISY_RECIPE = NoisyRecipe(model="", flip=False)
ANY_CONTROL_RECIPE = ControlRecipe(model="")
