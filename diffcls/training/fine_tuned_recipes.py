"""Recipes of models that are made from a trained one: instruction editors and ControlNets."""

from __future__ import annotations

from dataclasses import dataclass

from diffcls.training.recipes import Optimisation


@dataclass(frozen=True, kw_only=True)
class InstructRecipe(Optimisation):
    """Recipe of an instruction editor (Brooks et al. 2023), fine-tuned from a text-to-image model.

    Args:
        image_size: side of the images, in pixels.
        pairs: N, number of pairs of images, before and after a change.
        dropped: shares of the examples, 0 to 1, that lose their instruction, their image, and both,
            for guidance by each of them (section 3.2.1).
        lateness: see `Recipe`; what an image shows is decided at high noise.
        loss_weighting: weighting of the loss over time, see `diffcls.training.losses.WEIGHTS`.
    """

    images: int = 32_000
    batch: int = 32
    learning_rate: float = 7e-4
    ema: float = 0.99
    image_size: int = 32
    pairs: int = 5_000
    dropped: tuple[float, float, float] = (0.05, 0.05, 0.05)
    lateness: float = 3.0
    loss_weighting: str = "native"


@dataclass(frozen=True, kw_only=True)
class ControlRecipe(Optimisation):
    """Recipe of a ControlNet (Zhang et al. 2023), which steers a model that stays as it is.

    Args:
        model, control: Stable Diffusion to steer, and the map, of `diffcls.data.edges.EDGES`.
        embedding_widths: channels of the map's embedding, halved down to the latents.
        middle_attention: whether its middle block attends to the prompt, as that of the model.
        examples: the first images of the training split, which alone are trained on; 0: all.
        prompt_dropout, caption_pool, loss_weighting: see `Recipe`.
    """

    ema: float = 0.995
    images: int = 48_000
    batch: int = 32
    model: str
    control: str = "canny"
    embedding_widths: tuple[int, ...] = (16, 32, 64)
    middle_attention: bool = False
    examples: int = 0
    prompt_dropout: float = 0.5
    caption_pool: int = 0
    loss_weighting: str = "native"
