"""Pictures of a scene before and after a change, equal in everything that is not named.

Both have the same background, noise, places and shades; an object that grows at the edge of the
image is moved no farther than it needs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from diffcls.data.dataset import Dataset, Item
from diffcls.data.scenes.grammar import Kind
from diffcls.data.scenes.instructions import SceneEdit, random_edit
from diffcls.data.scenes.render import (
    MIN_GAP_PIXELS,
    NOISE_DEVIATION,
    SHADE_DEVIATION,
    SIDE_PIXELS,
    Floats,
    are_in_relation,
    are_separated,
    background,
    coverage,
    extents,
    painted,
    radius_of,
    shade_of,
    to_picture,
)
from diffcls.data.scenes.tasks import REVISION_IMAGES
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash
from diffcls.support.seeding import key

if TYPE_CHECKING:
    from PIL import Image

TRIES, ROUNDS = 400, 1000
"""Proposals of places that are evaluated together, and how often."""


def render_edit(edit: SceneEdit, key: int) -> tuple[Image.Image, Image.Image]:
    """RGB images of a scene before and after a change, 32 × 32 pixels each.

    Args:
        edit: the change.
        key: seed of places, radii, shades, background and noise.

    Raises:
        DataError: if the objects do not fit into the image.
    """
    rng = np.random.default_rng(key)
    deviations = 2 * rng.random(len(edit.objects)) - 1
    brightness = rng.normal(0.0, SHADE_DEVIATION, len(edit.objects))
    places = place_edit(edit, deviations, rng)
    ground = background(rng)
    noise = rng.normal(0.0, NOISE_DEVIATION, ground.shape)
    pictures = []
    for side, centres in enumerate(places):
        pixels = ground
        for kinds, deviation, lighter, (x, y) in zip(
            edit.objects, deviations, brightness, centres, strict=True
        ):
            kind = kinds[side]
            if kind is not None:
                cover = coverage(kind.shape, radius_of(kind, deviation), x, y)
                pixels = painted(pixels, cover, shade_of(kind, lighter))
        pictures.append(to_picture(pixels + noise))
    return pictures[0], pictures[1]


def place_edit(
    edit: SceneEdit, deviations: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Places of the objects before and after a change, by rejection sampling.

    Uniform places of the scene before are sampled until the smallest gaps and the relation hold
    before and after.

    Args:
        edit: the change.
        deviations: (n,) deviation of each radius, see `diffcls.data.scenes.render.radius_of`.
        rng: source of the places.

    Returns:
        (n, 2) centres (x, y) in pixels before, and after; they differ only where the object would
        reach over the edge.

    Raises:
        DataError: if no proposal is accepted.
    """
    # an object that is not there has the extents that it has in the other scene
    before, after = (
        _extents([kinds[side] or kinds[1 - side] for kinds in edit.objects], deviations)
        for side in (0, 1)
    )
    low, high = _bounds(before)
    for _ in range(ROUNDS):
        # (tries, n, 2)
        first = low + (high - low) * rng.random((TRIES, len(deviations), 2))
        second = first.clip(*_bounds(after))
        accepted = are_separated(first, *before) & are_separated(second, *after)
        if edit.larger.second is not None:
            relation = edit.larger.relation
            accepted &= are_in_relation(first, 1, relation) & are_in_relation(second, 1, relation)
        if accepted.any():
            chosen = int(np.argmax(accepted))
            return first[chosen], second[chosen]
    raise DataError(
        "the objects of the scenes do not fit into the image",
        given=f"{edit.before}; {edit.after}",
        allowed="fewer or smaller objects",
    )


def _extents(kinds: Sequence[Kind | None], deviations: Floats) -> Floats:
    """(3, n) extents of objects to either side, upwards and downwards."""
    return np.array(
        [
            extents(kind.shape, radius_of(kind, deviation))
            for kind, deviation in zip(kinds, deviations, strict=True)
            if kind is not None
        ]
    ).T


def _bounds(sizes: Floats) -> tuple[Floats, Floats]:
    """Smallest and largest centres, (n, 2) each, of objects with extents (3, n)."""
    side, up, down = sizes
    low = np.stack([side, up], axis=1) + MIN_GAP_PIXELS
    high = SIDE_PIXELS - MIN_GAP_PIXELS - np.stack([side, down], axis=1)
    return low, high


def edits_of(split: str, count: int) -> list[SceneEdit]:
    """Random changes; a change depends on the split and its number alone."""
    rngs = (random.Random(key("scene edit", split, i)) for i in range(count))
    return [random_edit(rng) for rng in rngs]


def images_of(edits: Sequence[SceneEdit], split: str) -> Dataset:
    """Both images of changes, before and after by turns, as a data set.

    Its class names are the sentences of the scenes. Images are rendered when they are opened.
    """
    scenes = [scene for edit in edits for scene in (edit.before, edit.after)]
    sentences = [str(scene) for scene in scenes]
    names = tuple(sorted(set(sentences)))
    index = {sentence: i for i, sentence in enumerate(names)}
    keys = [key("edited scene", split, i) for i in range(len(edits))]
    items = tuple(
        Item(f"{split}/{n}", index[sentence], partial(_side, edits[n // 2], keys[n // 2], n % 2))
        for n, sentence in enumerate(sentences)
    )
    pixels = [item.open().tobytes() for item in items[:REVISION_IMAGES]]
    return Dataset("scenes", split, names, items, content_hash(*sentences, *pixels))


def _side(edit: SceneEdit, key: int, side: int) -> Image.Image:
    return _rendered(edit, key)[side]


# both images of a change are opened one after the other
_rendered = lru_cache(maxsize=4)(render_edit)
