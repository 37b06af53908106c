"""Edited scenes of one object: what is asked of them, and how the edit is judged.

An independent classifier, a CLIP that shares no weights with the diffusion model, says what an edit
shows among all 96 combinations; the mask of the object is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.judge import Judge
from benchmarks.accuracy.pointing import dilated, object_mask
from diffcls.data.scenes.grammar import COLOURS, SHAPES, SIZES, Group, Kind
from diffcls.metrics.statistics import wilson_interval
from diffcls.support.seeding import key

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from diffcls.data.dataset import Item

DATASET, JUDGE, IMAGES = "scenes/attributes", "clip-scenes", 200
PARTS = {"colour": COLOURS, "shape": SHAPES, "size": SIZES}
MARGIN_PIXELS = 2
"""Pixels around an object, before and after the edit, that are its edge."""
COLOURFUL = 60
"""Difference of the largest and smallest channel, of 255, in objects; in backgrounds it is less."""


@dataclass(frozen=True)
class Outcome:
    """One edited image.

    Args:
        is_right: whether the judge sees the target.
        keeps_others: whether it sees the attributes that were not named as they were.
        outside: share of the pixels outside the object that changed.
        psnr, psnr_of_autoencoder: of the edit and of the mere reconstruction, against the image.
    """

    is_right: bool
    keeps_others: bool
    outside: float
    psnr: float
    psnr_of_autoencoder: float


def row(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of one kind of edit."""
    right = sum(one.is_right for one in outcomes)
    low, high = wilson_interval(right, len(outcomes))
    return {
        "edit": name,
        "n": len(outcomes),
        "rate": right / len(outcomes),
        "ci_low": low,
        "ci_high": high,
        "other_attributes_kept": float(np.mean([one.keeps_others for one in outcomes])),
        "changed_outside": float(np.mean([one.outside for one in outcomes])),
        "psnr": float(np.mean([one.psnr for one in outcomes])),
        "psnr_of_autoencoder": float(np.mean([one.psnr_of_autoencoder for one in outcomes])),
    }


def kind_of(item: Item) -> Kind:
    """The combination that a scene of one object shows."""
    scene, _ = item.open.args  # type: ignore[attr-defined]
    kind: Kind = scene.first.kind
    return kind


def swapped(kind: Kind, part: str, image_id: str) -> Kind:
    """The combination with another value of an attribute, chosen by the image's id."""
    others = [value for value in PARTS[part] if value != getattr(kind, part)]
    return Kind(**{**vars(kind), part: others[key("edit", image_id) % len(others)]})


def outcome_of(judge: KindJudge, item: Item, target: Kind, pixels: Tensor, result: Any) -> Outcome:
    """The outcome of one edit.

    Args:
        judge: the independent classifier.
        item: the scene.
        target: what the edit is to show.
        pixels: (3, H, W) in [−1, 1], the image.
        result: the edit, with ``image`` and ``reconstruction``.
    """
    from diffcls.data.transforms import to_image
    from diffcls.editing.change_region import changed_pixels

    kind, seen = kind_of(item), judge(to_image(result.image))
    named = {part for part in PARTS if getattr(kind, part) != getattr(target, part)}
    changed = changed_pixels(result.image, result.reconstruction).numpy()
    outside = outside_object(item, result.image)
    return Outcome(
        is_right=seen == target,
        keeps_others=all(
            getattr(seen, part) == getattr(kind, part) for part in PARTS if part not in named
        ),
        outside=float(changed[outside].mean()),
        psnr=psnr(result.image, pixels),
        psnr_of_autoencoder=psnr(result.reconstruction, pixels),
    )


def outside_object(item: Item, image: Tensor) -> NDArray[np.bool_]:
    """(H, W) pixels outside the object of a scene and of its edit (3, H, W), and of their edges."""
    outside: NDArray[np.bool_] = ~dilated(object_mask(item), MARGIN_PIXELS) & ~new_object(image)
    return outside


def new_object(image: Tensor) -> NDArray[np.bool_]:
    """(H, W) pixels of the object in an edited scene: they are colourful, the background is not."""
    values = image.numpy() * 127.5
    colourful: NDArray[np.bool_] = values.max(axis=0) - values.min(axis=0) > COLOURFUL
    return dilated(colourful, MARGIN_PIXELS)


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio of images in [−1, 1], in decibels: 10·log10(2²/MSE)."""
    error = float((image - reference).double().square().mean())
    return float(10 * np.log10(4 / max(error, 1e-12)))


class KindJudge:
    """The independent classifier, among combinations.

    Args:
        names: sentences of all combinations.
    """

    def __init__(self, names: Sequence[str]) -> None:
        from diffcls.data.scenes.grammar import KINDS

        self._judge = Judge(JUDGE, names, ["{}"])
        of_sentence = {str(Group(kind)): kind for kind in KINDS}
        self._kinds = [of_sentence[name] for name in names]

    def __call__(self, picture: Image.Image) -> Kind:
        """The combination that a picture shows."""
        return self._kinds[int(self._judge([picture])[0])]

    def accuracy(self, items: Sequence[Item]) -> float:
        """Share of real images on which it is right."""
        return float(np.mean([self(item.open()) == kind_of(item) for item in items]))
