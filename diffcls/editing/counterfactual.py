"""Counterfactual: the smallest edit of an image after which a classifier says another class.

An image is edited from its class to another one with growing strength, until the classifier is
convinced. An edit moves by the difference between the steps of both classes, so away from the one
and towards the other, and where both agree about the image it stays as it is
(`diffcls.editing.edit`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.editing.change_region import changed_pixels
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from torch import Tensor

    from diffcls.editing.options import EditSettings

STRENGTHS = tuple(round(0.1 * i, 1) for i in range(1, 11))
"""Strengths that are tried, in this order."""
CONVINCED = 0.5
"""Posterior of the other class from which on the classifier says it with confidence."""

Judge = Callable[["Tensor"], Float64]
"""(3, H, W) in [−1, 1] -> (K,) posterior of the classes."""


@dataclass(frozen=True)
class Step:
    """One edit on the way.

    Args:
        strength: its strength; 0: the original.
        image: (3, H, W) in [−1, 1].
        posterior: (K,) of the classes.
    """

    strength: float
    image: Tensor
    posterior: Float64


@dataclass(frozen=True)
class Counterfactual:
    """The way from a class to another.

    Args:
        labels: (K,) the classes.
        label, target: indices of the present and of the other class.
        steps: the original as the model decodes it, then edits of growing strength; the last one is
            the counterfactual.
        region: (h, w) where its latents may have changed; None for everywhere.
    """

    labels: tuple[str, ...]
    label: int
    target: int
    steps: tuple[Step, ...]
    region: Tensor | None

    @property
    def image(self) -> Tensor:
        """(3, H, W) in [−1, 1], the counterfactual."""
        return self.steps[-1].image

    @property
    def strength(self) -> float:
        """Strength of the smallest edit that convinces, or of the strongest one; 0 without any."""
        return self.steps[-1].strength

    @property
    def is_convincing(self) -> bool:
        """Whether the classifier says the other class."""
        return convinces(self.steps[-1].posterior, self.target)

    @property
    def is_edited(self) -> bool:
        """Whether it took an edit: otherwise the decoded image alone convinces the classifier."""
        return len(self.steps) > 1

    @property
    def changed(self) -> float:
        """Share of the pixels that differ from the original by more than 10 of 255 grey values."""
        return float(changed_pixels(self.image, self.steps[0].image).float().mean())

    def save(self, path: str | Path) -> None:
        """Write the way as a strip of pictures with the posterior below each, as PNG.

        Raises:
            UsageError: for another ending, or a folder that cannot be written.
        """
        from diffcls.editing.pictures import save

        save(Path(path), strip_of(self))


def convinces(posterior: Float64, target: int) -> bool:
    """Whether a class has the largest posterior, and at least `CONVINCED`."""
    return int(np.argmax(posterior)) == target and float(posterior[target]) >= CONVINCED


def counterfactual(
    denoiser: Any,
    pixels: Tensor,
    prompts: Sequence[str],
    labels: Sequence[str],
    label: int,
    target: int,
    judge: Judge,
    settings: EditSettings,
) -> Counterfactual:
    """The smallest edit that makes a classifier say another class.

    Args:
        denoiser: the model.
        pixels: (3, H, W) in [−1, 1], the image.
        prompts: (K,) the prompt of each class.
        labels: (K,) the classes.
        label: index of the present class.
        target: index of the other class.
        judge: the classifier.
        settings: of the edits; their strengths are `STRENGTHS`.

    Raises:
        ModelError: see `diffcls.editing.edit.edit`.
    """
    from diffcls.editing.edit import edit, inverted, reconstruction

    inversion = inverted(denoiser, pixels, prompts[label], settings.steps)
    original = reconstruction(denoiser, inversion)
    steps, region = [Step(0.0, original, judge(original))], None
    for strength in strengths(len(inversion.path) - 1):
        if convinces(steps[-1].posterior, target):
            break
        given = dataclasses.replace(settings, strength=strength)
        result = edit(denoiser, pixels, prompts[label], prompts[target], given, inversion)
        region = result.region
        steps.append(Step(strength, result.image, judge(result.image)))
    return Counterfactual(tuple(labels), label, target, tuple(steps), region)


def strengths(steps: int) -> list[float]:
    """The strengths of `STRENGTHS` that edit more steps of a path than the one before."""
    from diffcls.editing.edit import edited_steps

    counts = [edited_steps(steps, strength) for strength in (0.0, *STRENGTHS)]
    grows = (after > before for before, after in pairwise(counts))
    return list(compress(STRENGTHS, grows))


def strip_of(found: Counterfactual) -> Any:
    """The way as one picture: each step with the posterior of both classes."""
    from diffcls.data.transforms import to_image
    from diffcls.editing.pictures import grid

    tiles = []
    for step in found.steps:
        name = "original" if not step.strength else f"strength {step.strength:g}"
        shown = [f"{found.labels[k]} {step.posterior[k]:.0%}" for k in (found.label, found.target)]
        tiles.append((f"{name}\n" + "\n".join(shown), to_image(step.image)))
    return grid([tiles], caption_lines=3)
