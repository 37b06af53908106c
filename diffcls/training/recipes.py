"""Training recipes: everything that decides a model's weights but the seed.

Every recipe has the fields of `Optimisation`. Their values are rows of
`diffcls.training.recipe_table`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from diffcls.models.small_stable_diffusion import TinyConfig
from diffcls.support.options import part_of


@dataclass(frozen=True)
class Augmentation:
    """Data augmentation: ranges of random, class-preserving changes, each symmetric around none.

    Args:
        degrees: rotation, in degrees.
        scale: relative change of size; 0.1 means 0.9 to 1.1.
        shear: relative horizontal shear.
        shift: translation, relative to the side of the image.
        warp: standard deviation of a smooth distortion, relative to the side of the image.
        contrast: relative change of the signal above its darkest value.
        flip: whether to mirror left and right with probability ½.
    """

    degrees: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    warp: float = 0.0
    contrast: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Optimisation:
    """Length of a training and settings of its optimiser, AdamW (Loshchilov & Hutter 2019).

    Args:
        images: training images seen; at most that many with early stopping.
        batch: images per batch. A step takes one batch, or more with gradient accumulation and
            data parallel training.
        learning_rate: peak value.
        warmup: share of the steps, 0 to 1, over which the learning rate rises linearly.
        decay: learning rate after the warm-up: "cosine", half a cosine down to zero, or "constant".
        ema: decay of the exponential moving average of the weights, 0 to 1; the averaged weights
            are the model's.
        betas: AdamW's decay rates of the gradient's first and second moment.
        weight_decay: AdamW's decoupled weight decay.
        gradient_clip: maximum norm of the gradient.
        precision: "float32", or "bfloat16" for automatic mixed precision.
        on_device: whether data and random numbers are held and drawn on the device that trains,
            and captions come from a pool, so that it never waits for the CPU; another kind of
            device draws other numbers. Always so on a GPU, see `for_device`.
        compiled: whether torch compiles the networks.
    """

    images: int = 1_000_000
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.02
    decay: str = "cosine"
    ema: float = 0.999
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    precision: str = "float32"
    on_device: bool = False
    compiled: bool = False

    @property
    def batches(self) -> int:
        """Number of batches, at least one."""
        return max(1, self.images // self.batch)


EXECUTION = {"precision": "float32", "on_device": False, "compiled": False}
"""Fields of `Optimisation` that say how networks are executed, with their defaults."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Optimisation):
    """Recipe of a small latent text-to-image model: an autoencoder, then a denoiser.

    The fields of `Optimisation` are those of the denoiser, a U-Net with its text encoder; the
    autoencoder shares all of them but those that begin with ``vae_``.

    Args:
        config: shape of the model.
        augmentation: applied to each copy of each training image.
        copies: augmented copies of each image that latents are made of, the first unchanged.
        vae_images: training images seen by the autoencoder.
        vae_batch: images per batch of the autoencoder; 0: `batch`.
        vae_learning_rate: peak learning rate of the autoencoder.
        vae_ema: decay of the moving average of the autoencoder's weights.
        kl_weight: weight of the KL divergence per latent dimension in the autoencoder's loss.
        prompt_dropout: share of captions, 0 to 1, replaced by the empty one, for classifier-free
            guidance (Ho & Salimans 2022).
        caption_pool: number of captions of each class that are drawn from; 0: each image seen has
            a new one, or with `on_device` one of a pool of
            `diffcls.training.caption_batches.POOL_CAPTIONS` in all.
        emphasis: weight of the images whose class name contains a word, relative to 1 of the
            others; the largest weight counts.
        lateness: κ ≥ 1 at the start of the denoiser's training, whose times t in 0 to 1 have the
            density κ·t^(κ−1). κ − 1 falls with the square of the share of training that is left;
            1: all times equally often. Composition is decided at high noise, so it is learned
            first.
        loss_weighting: weighting of the loss over time, see `diffcls.training.losses.WEIGHTS`.
        allocation: default timestep allocation of the model, see
            `diffcls.diffusion.timestep_allocation`; learned on a data set other than its own.
        teaches: benchmarks whose classes, with their names, the model has seen after training;
            empty: the data set itself.
        measured_on: benchmark whose validation images give the curve and the temperature; empty:
            the data set itself.
    """

    config: TinyConfig = field(default_factory=TinyConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    copies: int = 1
    vae_images: int = 200_000
    vae_batch: int = 0
    vae_learning_rate: float = 2e-3
    vae_ema: float = 0.995
    kl_weight: float = 1e-3
    prompt_dropout: float = 0.1
    caption_pool: int = 0
    emphasis: Mapping[str, float] = field(default_factory=dict)
    lateness: float = 1.0
    loss_weighting: str = "native"
    allocation: str = "cifar10"
    teaches: tuple[str, ...] = ()
    measured_on: str = ""

    @property
    def autoencoder(self) -> Optimisation:
        """Optimisation of the autoencoder."""
        return dataclasses.replace(
            part_of(self, Optimisation),
            images=self.vae_images,
            batch=self.vae_batch or self.batch,
            learning_rate=self.vae_learning_rate,
            ema=self.vae_ema,
        )

    def divided(self, images: int) -> dict[str, int]:
        """`images` divided between autoencoder and denoiser, in the recipe's proportion."""
        vae_images = round(images * self.vae_images / (self.vae_images + self.images))
        return {"vae_images": vae_images, "images": images - vae_images}


@dataclass(frozen=True, kw_only=True)
class ClipRecipe(Optimisation):
    """Recipe of a small CLIP model.

    Images, captions and augmentation are those of the diffusion model of the same data set.

    Args:
        image_size: side that images are resized to, in pixels.
        vision_width, vision_layers: shape of open_clip's ResNet.
        embed_dim: D of the joint embedding space.
        text_width, text_layers, max_tokens, vocabulary: see
            `diffcls.models.small_stable_diffusion.TinyConfig`.
        caption_pool: see `Recipe`.
    """

    warmup: float = 0.05
    ema: float = 0.998
    image_size: int = 64
    vision_width: int = 24
    vision_layers: tuple[int, int, int, int] = (1, 1, 1, 1)
    embed_dim: int = 128
    text_width: int = 128
    text_layers: int = 2
    max_tokens: int = 24
    vocabulary: int = 900
    caption_pool: int = 0


@dataclass(frozen=True, kw_only=True)
class PixelRecipe(Optimisation):
    """Recipe of a small pixel-space diffusion model.

    Args:
        image_size, channels: shape of the images as the data set has them, so that the model's
            likelihood is that of the data set's own pixels.
        widths: channels of the U-Net at its resolutions, each half the previous one.
        layers: residual blocks per resolution.
        conditional: whether the network is conditioned on the class.
        class_dropout: share of the images, 0 to 1, that a class-conditional network sees without
            their class, for classifier-free guidance.
        prediction_type: "epsilon", "v_prediction", "sample" or "flow_prediction".
        noise_schedule: diffusers' "linear", "scaled_linear" or "squaredcos_cap_v2"; or "learned",
            between the ends of the linear one.
        levels: "discrete", or "continuous" between the schedule's; a learned one is continuous.
        loss_weighting: weighting of the loss over time, see `diffcls.training.losses.WEIGHTS`.
        learned_variance: whether the network learns the variance of the reverse step.
        flip: whether images are mirrored with probability ½.
    """

    images: int = 600_000
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


@dataclass(frozen=True, kw_only=True)
class NoisyRecipe(Optimisation):
    """Recipe of a classifier of noisy images, for classifier guidance.

    Args:
        model: pixel-space diffusion model to guide; its images and noise levels are trained on.
        widths: channels of the network at its resolutions.
        flip: whether images are mirrored with probability ½.
    """

    images: int = 400_000
    ema: float = 0.998
    model: str
    widths: tuple[int, ...] = (32, 64, 128)
    flip: bool = True


R = TypeVar("R", bound=Optimisation)


def for_device(recipe: R, device: str) -> R:
    """The recipe as a device trains it: a GPU holds the data and draws all random numbers.

    Elsewhere it stays as it is. It is the one that is stored with the model, so a training does
    not resume on another kind of device.

    Args:
        recipe: of any kind of model.
        device: torch's name of the device.
    """
    return dataclasses.replace(recipe, on_device=True) if device.startswith("cuda") else recipe


def read_recipe(kind: type[R], stored: Mapping[str, Any]) -> R:
    """The recipe that a card or a training folder stores.

    Args:
        kind: class of the recipe.
        stored: its fields in plain JSON types. Fields that an older version did not know take
            their defaults, which are the values that it trained with.
    """
    nested = {"config": TinyConfig, "augmentation": Augmentation}
    values = {}
    for known in dataclasses.fields(kind):
        if known.name not in stored:
            continue
        value = stored[known.name]
        if known.name in nested:
            value = nested[known.name](**{k: _tuple(v) for k, v in value.items()})
        values[known.name] = _tuple(value)
    return kind(**values)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
