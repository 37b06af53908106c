"""Rendering of scenes: random positions, background and noise, anti-aliased edges.

Each image has a random generator seeded by its own key, so it depends only on its scene and key.
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
SIDE_PIXELS = 32
"""Side of an image; x increases to the right, y downwards, and pixel i covers [i, i + 1]."""

RADIUS_PIXELS = {"small": (3.4, 0.2), "medium": (5.4, 0.3), "large": (8.0, 0.4)}
"""Mean radius of each size, and its largest deviation."""

COLOUR_RGB = {
    "red": (0.90, 0.08, 0.08),
    "orange": (1.00, 0.52, 0.02),
    "yellow": (0.98, 0.92, 0.10),
    "green": (0.08, 0.68, 0.14),
    "cyan": (0.10, 0.88, 0.92),
    "blue": (0.10, 0.20, 0.92),
    "purple": (0.52, 0.10, 0.78),
    "pink": (1.00, 0.60, 0.80),
}
MIN_GAP_PIXELS = 1.0
"""Smallest distance between two objects, and between an object and the edge of the image."""

SHADE_DEVIATION, NOISE_DEVIATION = 0.025, 0.02
"""Standard deviations of an object's brightness, and of the noise of each value."""

# proportions of the shapes, in units of the radius
_TRIANGLE_CIRCUMRADIUS, _SQUARE_HALF_SIDE = 1.25, 0.89
_CROSS_HALF_LENGTH, _CROSS_HALF_WIDTH = 1.05, 0.34


def render_scene(scene: Scene, key: int) -> Image.Image:
    """RGB image of a scene, 32 × 32 pixels.

    Args:
        scene: objects and their relation.
        key: seed of positions, radii, shades, background and noise.

    Raises:
        DataError: if the objects do not fit into the image.
    """
    rng = np.random.default_rng(key)
    covers = _covers(scene, rng)
    pixels = background(rng)
    for kind, cover in zip(scene.kinds, covers, strict=True):
        pixels = painted(pixels, cover, shade_of(kind, rng.normal(0.0, SHADE_DEVIATION)))
    return to_picture(pixels + rng.normal(0.0, NOISE_DEVIATION, pixels.shape))


def painted(pixels: Floats, cover: Floats, shade: Floats) -> Floats:
    """(32, 32, 3) pixels with an object over them, from its coverage (32, 32) and its RGB (3,)."""
    share = cover[..., None]
    return pixels * (1 - share) + shade * share


def to_picture(pixels: Floats) -> Image.Image:
    """RGB image of values (32, 32, 3) in [0, 1]; others are clipped."""
    from PIL import Image

    return Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))


def object_coverage(scene: Scene, key: int) -> list[Floats]:
    """(32, 32) coverage of the pixels by each object of the image that `render_scene` makes."""
    return _covers(scene, np.random.default_rng(key))


def _covers(scene: Scene, rng: np.random.Generator) -> list[Floats]:
    """(32, 32) coverage of the pixels by each object, at random positions."""
    radius = np.array([radius_of(kind, 2 * float(rng.random()) - 1) for kind in scene.kinds])
    centres = place_objects(scene, radius, rng)
    return [
        coverage(kind.shape, r, x, y)
        for kind, r, (x, y) in zip(scene.kinds, radius, centres, strict=True)
    ]


def coverage(shape: str, radius: float, x: float, y: float) -> Floats:
    """Coverage of each pixel by a shape: anti-aliasing from the signed distance to its edge.

    coverage = clip(½ − distance, 0, 1), with the distance at the pixel's centre.

    Args:
        shape: circle, square, triangle or cross.
        radius: radius of a circle in pixels; of the other shapes, a scale of similar size.
        x, y: centre in pixels.

    Returns:
        (32, 32) fractions in [0, 1].
    """
    pixel_centres = np.arange(SIDE_PIXELS) + 0.5
    dx, dy = pixel_centres[None, :] - x, pixel_centres[:, None] - y
    across, down = np.abs(dx), np.abs(dy)
    if shape == "circle":
        distance = np.sqrt(dx * dx + dy * dy) - radius
    elif shape == "square":
        distance = np.maximum(across, down) - _SQUARE_HALF_SIDE * radius
    elif shape == "triangle":
        # three half planes at the inradius, half the circumradius; the apex is at the top
        inradius = _TRIANGLE_CIRCUMRADIUS * radius / 2
        side = math.sqrt(3) / 2 * across - dy / 2 - inradius
        distance = np.maximum(dy - inradius, side)
    else:
        long, wide = _CROSS_HALF_LENGTH * radius, _CROSS_HALF_WIDTH * radius
        bars = np.maximum(across - long, down - wide), np.maximum(across - wide, down - long)
        distance = np.minimum(*bars)
    covered: Floats = (0.5 - distance).clip(0.0, 1.0)
    return covered


def extents(shape: str, radius: float) -> tuple[float, float, float]:
    """Extents of a shape from its centre, in pixels: to either side, upwards, downwards."""
    if shape == "triangle":
        r = _TRIANGLE_CIRCUMRADIUS * radius
        return math.sqrt(3) / 2 * r, r, r / 2
    scale = {"circle": 1.0, "square": _SQUARE_HALF_SIDE, "cross": _CROSS_HALF_LENGTH}[shape]
    return scale * radius, scale * radius, scale * radius


def place_objects(
    scene: Scene, radius: Floats, rng: np.random.Generator, tries: int = 400
) -> Floats:
    """Positions of a scene's objects by rejection sampling.

    Uniform positions are sampled until no two objects are closer than the smallest gap and the
    relation holds.

    Args:
        scene: objects and their relation.
        radius: (n,) radius of each object in pixels.
        rng: source of the positions.
        tries: number of proposals evaluated together, at most 1,000 times.

    Returns:
        (n, 2) centres (x, y) in pixels.

    Raises:
        DataError: if no proposal is accepted.
    """
    kinds = scene.kinds
    sizes = [extents(kind.shape, r) for kind, r in zip(kinds, radius, strict=True)]
    side, up, down = np.array(sizes).T
    low = np.stack([side, up], axis=1) + MIN_GAP_PIXELS
    high = SIDE_PIXELS - MIN_GAP_PIXELS - np.stack([side, down], axis=1)
    for _ in range(1000):
        # (tries, n, 2)
        centres = low + (high - low) * rng.random((tries, len(kinds), 2))
        accepted = are_separated(centres, side, up, down)
        if scene.second is not None:
            accepted &= are_in_relation(centres, scene.first.count, scene.relation)
        if accepted.any():
            first: Floats = centres[int(np.argmax(accepted))]
            return first
    raise DataError(
        "the objects of the scene do not fit into the image",
        given=str(scene),
        allowed="fewer or smaller objects",
    )


def are_separated(centres: Floats, side: Floats, up: Floats, down: Floats) -> NDArray[np.bool_]:
    """(tries,) whether the bounding boxes of all objects have the smallest gap between them."""
    separated = np.ones(len(centres), dtype=bool)
    x, y = centres[..., 0], centres[..., 1]
    for i in range(centres.shape[1]):
        for j in range(i):
            beside = np.abs(x[:, i] - x[:, j]) >= side[i] + side[j] + MIN_GAP_PIXELS
            over = (y[:, j] - up[j]) - (y[:, i] + down[i]) >= MIN_GAP_PIXELS
            under = (y[:, i] - up[i]) - (y[:, j] + down[j]) >= MIN_GAP_PIXELS
            separated = np.logical_and(separated, beside | over | under)
    return separated


def are_in_relation(centres: Floats, first: int, relation: str) -> NDArray[np.bool_]:
    """(tries,) whether the relation holds, with a margin, between all objects of both groups."""
    # (tries, first, others, 2): offset of an object of the second group from one of the first
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


def radius_of(kind: Kind, deviation: float) -> float:
    """Radius of an object in pixels, for its deviation from the mean in [−1, 1]."""
    mean, largest = RADIUS_PIXELS[kind.size]
    return mean + largest * deviation


def shade_of(kind: Kind, brightness: float) -> Floats:
    """(3,) RGB of the kind's colour, with a brightness added."""
    shade: Floats = np.array(COLOUR_RGB[kind.colour]) + brightness
    return shade


def background(rng: np.random.Generator) -> Floats:
    """(32, 32, 3) gray background with a slight tint and a slight linear gradient."""
    gray = 0.05 + 0.55 * rng.random() + rng.normal(0.0, 0.02, 3)
    slope = rng.normal(0.0, 0.04, 2)
    ramp = np.linspace(-1.0, 1.0, SIDE_PIXELS)
    pixels: Floats = gray + (slope[0] * ramp[None, :] + slope[1] * ramp[:, None])[..., None]
    return pixels
