"""Presets: the models that visitors may choose, each with labels and a template to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffcls.demo.options import DemoOptions

TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class Preset:
    """A model with a question to begin with.

    Args:
        name: name, folder or id of the diffusion model.
        title: what visitors read.
        labels: labels to begin with.
        template: template to begin with.
        clip: name or folder of a CLIP; None if there is none to ask.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    template: str = TEMPLATE
    clip: str | None = None


BUNDLED = (
    Preset(
        "digits",
        "Handwritten digits",
        tuple("0123456789"),
        "a photo of a handwritten digit {}.",
        "clip-digits",
    ),
    Preset(
        "scenes",
        "Rendered scenes",
        (
            "a large red circle",
            "a large blue circle",
            "a large red square",
            "a medium green triangle",
            "two small blue squares",
            "a small yellow cross",
        ),
        "a picture of {}.",
        "clip-scenes",
    ),
    Preset(
        "cifar10",
        "Small photographs (CIFAR-10)",
        tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
        "a blurry photo of a {}.",
        "clip-cifar10",
    ),
    Preset(
        "fashion_mnist",
        "Clothes (Fashion-MNIST)",
        tuple("t-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot".split(",")),
        TEMPLATE,
        "clip-fashion_mnist",
    ),
)
"""The bundled models, each with the bundled CLIP of its training data."""
OWN_LABELS = ("red circle", "blue circle", "green triangle", "handwritten digit seven")


def presets(options: DemoOptions) -> tuple[Preset, ...]:
    """The presets of a demo: that of ``--model``, or all bundled ones."""
    named = [preset for preset in BUNDLED if options.model in (None, preset.name)]
    if not named:
        name = str(options.model)
        named = [Preset(name, Path(name).name if Path(name).is_dir() else name, OWN_LABELS)]
    clip = options.clip_model
    return tuple(
        Preset(one.name, one.title, one.labels, one.template, clip or one.clip) for one in named
    )
