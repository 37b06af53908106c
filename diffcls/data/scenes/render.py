"""Rendering of scenes: random positions, background and noise, anti-aliased edges.

All randomness is seeded by the image's own key, so an image depends only on its scene and key.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.data.scenes.grammar import Kind, Scene
from diffcls.support.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float64]
SIDE = 32
"""Pixels; x runs to the right and y down, pixel i covers [i, i + 1]."""

# radius in pixels and how far it may vary
RADIUS = {"small": (3.4, 0.2), "medium": (5.4, 0.3), "large": (8.0, 0.4)}
COLOUR = {
    "red": (0.90, 0.08, 0.08),
    "orange": (1.00, 0.52, 0.02),
    "yellow": (0.98, 0.92, 0.10),
    "green": (0.08, 0.68, 0.14),
    "cyan": (0.10, 0.88, 0.92),
    "blue": (0.10, 0.20, 0.92),
    "purple": (0.52, 0.10, 0.78),
    "pink": (1.00, 0.60, 0.80),
}
GAP = 1.0
"""Pixels between two objects, and between an object and the edge, at least."""

_TRIANGLE, _CROSS, _SQUARE, _ARM = 1.25, 1.05, 0.89, 0.34


def draw(scene: Scene, key: int) -> Image.Image:
    """An RGB image of 32 × 32 pixels.

    Args:
        scene: what it shows.
        key: of everything random in it.

    Raises:
        DataError: for a scene that does not fit.
    """
    from PIL import Image

    rng = np.random.default_rng(key)
    radius = np.array([_vary(*RADIUS[kind.size], rng) for kind in scene.kinds])
    places = place(scene, radius, rng)
    pixels = _background(rng)
    for kind, r, (x, y) in zip(scene.kinds, radius, places, strict=True):
        cover = coverage(kind.shape, r, x, y)[..., None]
        pixels = pixels * (1 - cover) + _shade(kind, rng) * cover
    pixels += rng.normal(0.0, 0.02, pixels.shape)
    return Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))


def coverage(shape: str, radius: float, x: float, y: float) -> Floats:
    """(32, 32) share of each pixel that the shape covers, from its signed distance.

    Args:
        shape: circle, square, triangle or cross.
        radius: its size in pixels: of a circle the radius, of the others near it.
        x, y: its centre in pixels.
    """
    middle = np.arange(SIDE) + 0.5
    dx, dy = middle[None, :] - x, middle[:, None] - y
    across, down = np.abs(dx), np.abs(dy)
    if shape == "circle":
        distance = np.sqrt(dx * dx + dy * dy) - radius
    elif shape == "square":
        distance = np.maximum(across, down) - _SQUARE * radius
    elif shape == "triangle":
        # three half planes at R/2 from the centre, R the circumradius; the point is on top
        half = _TRIANGLE * radius / 2
        side = math.sqrt(3) / 2 * across - dy / 2 - half
        distance = np.maximum(dy - half, side)
    else:
        long, wide = _CROSS * radius, _ARM * radius
        bars = np.maximum(across - long, down - wide), np.maximum(across - wide, down - long)
        distance = np.minimum(*bars)
    covered: Floats = (0.5 - distance).clip(0.0, 1.0)
    return covered


def reach(shape: str, radius: float) -> tuple[float, float, float]:
    """How far a shape reaches from its centre, in pixels: to either side, up, down."""
    if shape == "triangle":
        r = _TRIANGLE * radius
        return math.sqrt(3) / 2 * r, r, r / 2
    scale = {"circle": 1.0, "square": _SQUARE, "cross": _CROSS}[shape]
    return scale * radius, scale * radius, scale * radius


def place(scene: Scene, radius: Floats, rng: np.random.Generator, tries: int = 400) -> Floats:
    """(n, 2) centres (x, y): the first random ones where nothing touches and the relation holds.

    Raises:
        DataError: where none is found in 1000 times `tries`.
    """
    kinds = scene.kinds
    reaches = [reach(kind.shape, r) for kind, r in zip(kinds, radius, strict=True)]
    side, up, down = np.array(reaches).T
    low = np.stack([side, up], axis=1) + GAP
    high = SIDE - GAP - np.stack([side, down], axis=1)
    for _ in range(1000):
        # (tries, n, 2)
        centres = low + (high - low) * rng.random((tries, len(kinds), 2))
        good = _apart(centres, side, up, down)
        if scene.second is not None:
            good &= _related(centres, scene.first.count, scene.relation)
        if good.any():
            chosen: Floats = centres[int(np.argmax(good))]
            return chosen
    raise DataError("no room for the scene", given=str(scene), allowed="fewer or smaller objects")


def _apart(centres: Floats, side: Floats, up: Floats, down: Floats) -> NDArray[np.bool_]:
    """(tries,) whether the boxes around all objects keep their distance."""
    good = np.ones(len(centres), dtype=bool)
    x, y = centres[..., 0], centres[..., 1]
    for i in range(centres.shape[1]):
        for j in range(i):
            beside = np.abs(x[:, i] - x[:, j]) >= side[i] + side[j] + GAP
            over = (y[:, j] - up[j]) - (y[:, i] + down[i]) >= GAP
            under = (y[:, i] - up[i]) - (y[:, j] + down[j]) >= GAP
            good = np.logical_and(good, beside | over | under)
    return good


def _related(centres: Floats, first: int, relation: str) -> NDArray[np.bool_]:
    """(tries,) whether each of the first objects stands clearly so to each of the others."""
    # (tries, first, others, 2): from the one to the other
    step = centres[:, None, first:] - centres[:, :first, None]
    dx, dy = step[..., 0], step[..., 1]
    along, across = {
        "to the left of": (dx, dy),
        "to the right of": (-dx, dy),
        "above": (dy, dx),
        "below": (-dy, dx),
    }[relation]
    clear: NDArray[np.bool_] = np.all(along >= 1.2 * np.abs(across), axis=(1, 2))
    return clear


def _vary(middle: float, spread: float, rng: np.random.Generator) -> float:
    return middle + spread * (2 * float(rng.random()) - 1)


def _shade(kind: Kind, rng: np.random.Generator) -> Floats:
    """(3,) the colour, a little lighter or darker."""
    shade: Floats = np.array(COLOUR[kind.colour]) + rng.normal(0.0, 0.025)
    return shade


def _background(rng: np.random.Generator) -> Floats:
    """(32, 32, 3) a gray with a faint tint and a faint slope."""
    gray = 0.05 + 0.55 * rng.random() + rng.normal(0.0, 0.02, 3)
    slope = rng.normal(0.0, 0.04, 2)
    ramp = np.linspace(-1.0, 1.0, SIDE)
    pixels: Floats = gray + (slope[0] * ramp[None, :] + slope[1] * ramp[:, None])[..., None]
    return pixels
