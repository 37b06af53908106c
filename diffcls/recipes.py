"""How each small model was trained: one row a data set. A changed row makes another model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diffcls.models.tiny import TinyConfig


@dataclass(frozen=True)
class Augmentation:
    """Random changes that keep the class; every range is symmetric around "no change".

    Args:
        degrees: rotation.
        scale: relative size, 0.1 for 0.9 to 1.1.
        shear: relative horizontal shear.
        shift: move, relative to the side.
        warp: smooth distortion, standard deviation relative to the side.
        contrast: relative strength of the signal, above its darkest value.
        flip: whether to mirror left and right.
    """

    degrees: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    warp: float = 0.0
    contrast: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but for the seed.

    Args:
        config: shape of the model.
        augmentation: applied to each copy of each training image.
        copies: augmented copies of each image that latents are made of, the first unchanged.
        vae_images, images: training images seen, by the autoencoder and by the U-Net with its
            text encoder.
        batch: images a step.
        learning_rate: at its peak; warmed up over `warmup` of the steps, then a cosine to zero.
        ema: decay of the weights' moving average.
        prompt_dropout: share of captions replaced by the empty one, for guidance.
        allocation: where in time the model's draws lie by default, see `diffcls.allocation`:
            learned on another data set than its own.
        teaches: the benchmarks whose classes the model has seen by the end, with their names;
            empty: the data set itself.
        measured_on: the benchmark whose validation images the curve and the temperature are
            measured on; empty: the data set itself.
    """

    config: TinyConfig = field(default_factory=TinyConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    copies: int = 1
    vae_images: int = 200_000
    images: int = 1_000_000
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.02
    ema: float = 0.999
    prompt_dropout: float = 0.1
    allocation: str = "cifar10"
    teaches: tuple[str, ...] = ()
    measured_on: str = ""


@dataclass(frozen=True)
class ClipRecipe:
    """Everything that decides the weights of a small CLIP model, but for the seed.

    Its images, captions and augmentation are those of the diffusion model of the same data set.

    Args:
        image_size: side that images are enlarged to, in pixels.
        vision_width, vision_layers: of open_clip's ResNet.
        embed_dim: D of the common space.
        text_width, text_layers, max_tokens, vocabulary: see `diffcls.models.tiny.TinyConfig`.
        images: training images seen.
        batch, learning_rate, warmup, ema: see `Recipe`.
    """

    image_size: int = 64
    vision_width: int = 24
    vision_layers: tuple[int, int, int, int] = (1, 1, 1, 1)
    embed_dim: int = 128
    text_width: int = 128
    text_layers: int = 2
    max_tokens: int = 24
    vocabulary: int = 900
    images: int = 1_000_000
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.05
    ema: float = 0.998


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
        # never what is held out
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

# as many images as the diffusion model of the same data set saw, or more
CLIP_RECIPES: Mapping[str, ClipRecipe] = {
    "digits": ClipRecipe(image_size=32, images=480_000),
    "fashion_mnist": ClipRecipe(image_size=32, images=640_000),
    "cifar10": ClipRecipe(image_size=48, images=900_000),
    "scenes": ClipRecipe(image_size=48, images=800_000),
}
