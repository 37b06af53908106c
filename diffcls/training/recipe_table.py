"""Recipe of each data set and kind of model: one row each.

A row named ``NAME-long`` is for a GPU: a model of data set NAME that sees many more images.
"""

from __future__ import annotations

from collections.abc import Mapping

from diffcls.models.small_stable_diffusion import TinyConfig
from diffcls.training.recipes import (
    Augmentation,
    ClipRecipe,
    NoisyRecipe,
    PixelRecipe,
    Recipe,
)

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
        # never the held-out combinations
        teaches=(
            "scenes/attributes",
            "scenes/relations",
            "scenes/counting",
            "scenes/pairs",
            "scenes:*",
        ),
        measured_on="scenes/attributes",
    ),
}

# at least as many images as the diffusion model of the same data set has seen
CLIP_RECIPES: Mapping[str, ClipRecipe] = {
    "digits": ClipRecipe(image_size=32, images=480_000),
    "fashion_mnist": ClipRecipe(image_size=32, images=640_000),
    "cifar10": ClipRecipe(image_size=48, images=900_000),
    "scenes": ClipRecipe(image_size=48, images=800_000),
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

# recipes of user data and of every data set without a row
ANY_RECIPE = Recipe(config=TinyConfig(latent_channels=8))
ANY_CLIP_RECIPE = ClipRecipe()
ANY_PIXEL_RECIPE = PixelRecipe(image_size=32, channels=3, widths=(48, 96, 96))
ANY_NOISY_RECIPE = NoisyRecipe(model="", flip=False)
