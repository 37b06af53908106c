"""How each small model was trained: one row a data set. A changed row makes another model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diffcls.models.small_stable_diffusion import TinyConfig


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
        loss_weighting: over time, see `diffcls.training.losses.WEIGHTS`.
        allocation: where in time the model's draws lie by default, see
            `diffcls.diffusion.timestep_allocation`: learned on another data set than its own.
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
    loss_weighting: str = "native"
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
        text_width, text_layers, max_tokens, vocabulary: see
            `diffcls.models.small_stable_diffusion.TinyConfig`.
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


@dataclass(frozen=True)
class PixelRecipe:
    """Everything that decides the weights of a small diffusion model of pixels, but for the seed.

    Args:
        image_size, channels: of the images, as the data set has them: its likelihood is that of
            its own pixels.
        widths: channels of the U-Net at its resolutions, each half the one before.
        layers: residual blocks a resolution.
        conditional: whether it is told the class; then `class_dropout` of the images are shown
            without, for guidance, and one model serves for both.
        class_dropout: see above.
        prediction_type: "epsilon", "v_prediction", "sample" or "flow_prediction".
        noise_schedule: of diffusers, "linear", "scaled_linear" or "squaredcos_cap_v2"; or
            "learned", between the ends of the linear one.
        levels: "discrete", or "continuous" between the schedule's; a learned one is.
        loss_weighting: over time, see `diffcls.training.losses.WEIGHTS`.
        learned_variance: whether the network learns the variance of the reverse step.
        flip: whether images are mirrored at random.
        images, batch, learning_rate, warmup, ema: see `Recipe`.
    """

    image_size: int = 28
    channels: int = 1
    widths: tuple[int, ...] = (32, 64, 96)
    layers: int = 1
    conditional: bool = True
    class_dropout: float = 0.2
    prediction_type: str = "epsilon"
    noise_schedule: str = "linear"
    levels: str = "discrete"
    loss_weighting: str = "native"
    learned_variance: bool = False
    flip: bool = True
    images: int = 600_000
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.02
    ema: float = 0.999


@dataclass(frozen=True)
class NoisyRecipe:
    """Everything that decides the weights of a classifier of noisy images, but for the seed.

    Args:
        model: the diffusion model of pixels that it leads: its images, and its levels of noise.
        widths: channels of the network at its resolutions.
        flip: whether images are mirrored at random.
        images, batch, learning_rate, warmup, ema: see `Recipe`.
    """

    model: str
    widths: tuple[int, ...] = (32, 64, 128)
    flip: bool = True
    images: int = 400_000
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.02
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

PIXEL_RECIPES: Mapping[str, PixelRecipe] = {
    "digits": PixelRecipe(image_size=8, widths=(32, 64), flip=False, images=400_000),
    "fashion_mnist": PixelRecipe(),
    "cifar10": PixelRecipe(image_size=32, channels=3, widths=(48, 96, 96)),
}

NOISY_RECIPES: Mapping[str, NoisyRecipe] = {
    "digits": NoisyRecipe("digits-pixels", widths=(32, 64), flip=False, images=200_000),
    "fashion_mnist": NoisyRecipe("fashion_mnist-pixels"),
    "cifar10": NoisyRecipe("cifar10-pixels"),
}

# of data of a person's own, and of every other data set
ANY_RECIPE = Recipe(config=TinyConfig(latent_channels=8))
ANY_CLIP_RECIPE = ClipRecipe()
ANY_PIXEL_RECIPE = PixelRecipe(image_size=32, channels=3, widths=(48, 96, 96))
ANY_NOISY_RECIPE = NoisyRecipe("", flip=False)
