"""Rendering of scenes: areas of shapes, distances of objects, and images that show their scene."""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from helpers.scenes import SPLITS, load
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from diffcls.data.scenes import render
from diffcls.data.scenes.grammar import (
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    Group,
    Kind,
    Scene,
    parse,
)
from diffcls.data.scenes.render import (
    COLOUR_RGB,
    MIN_GAP_PIXELS,
    RADIUS_PIXELS,
    SIDE_PIXELS,
    coverage,
    extents,
    place_objects,
    render_scene,
)
from diffcls.support.errors import DataError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def fitting_scenes() -> list[Scene]:
    """All scenes that fit into an image, up to their colours."""
    red = [Kind(size, "red", shape) for size, shape in product(SIZES, SHAPES)]
    first = [Group(kind, n) for kind, n in product(red, (1, 2, 3))]
    second = [Group(Kind(g.kind.size, "blue", g.kind.shape), g.count) for g in first]
    scenes = [Scene(group) for group in first]
    scenes += [Scene(a, relation, b) for a, relation, b in product(first, RELATIONS, second)]
    return [scene for scene in scenes if scene.fits]


def inside(shape: str, radius: float, dx: Any, dy: Any) -> Any:
    """Whether points lie in a shape centred on the origin, y downwards, from its corners."""
    if shape == "circle":
        return np.hypot(dx, dy) < radius

    def box(wide: float, high: float) -> Bools:
        return (np.abs(dx) < wide * radius) & (np.abs(dy) < high * radius)

    if shape == "square":
        return box(0.89, 0.89)
    if shape == "cross":
        return box(1.05, 0.34) | box(0.34, 1.05)
    # apex at the top, base horizontal; corners clockwise, so the inside lies to the right
    angles = np.radians([-90, 30, 150])
    x, y = 1.25 * radius * np.cos(angles), 1.25 * radius * np.sin(angles)
    turns = [
        (x[k - 2] - x[k]) * (dy - y[k]) - (y[k - 2] - y[k]) * (dx - x[k]) > 0 for k in range(3)
    ]
    return np.logical_and.reduce(turns)


def area(shape: str, radius: float) -> float:
    return (
        radius**2
        * {
            "circle": math.pi,
            "square": (2 * 0.89) ** 2,
            "triangle": 3 * math.sqrt(3) / 4 * 1.25**2,
            "cross": 4 * (2 * 1.05 * 0.34 - 0.34**2),
        }[shape]
    )


@pytest.mark.parametrize("radius", [3.2, 5.4, 8.4])
@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_sums_to_the_area_of_the_shape(shape: str, radius: float) -> None:
    # An edge one pixel wide is the mean of sharp edges at s, −½ < s < ½, from the true one; in the
    # mean over all places on the grid it covers ∫ A(s) ds. A(s) is a square polynomial, and the
    # integral is A(0) + A''/24, with A'' = 2π of the circle, 2·4 of the square and the cross,
    # 2·3·√3 of the triangle.
    second = {"circle": 2 * math.pi, "square": 8, "cross": 8, "triangle": 6 * math.sqrt(3)}
    steps = 16 + (np.arange(16) + 0.5) / 16
    covered = np.mean([coverage(shape, radius, x, y).sum() for x in steps for y in steps])
    assert covered == pytest.approx(area(shape, radius) + second[shape] / 24, abs=0.01)


@given(st.sampled_from(SHAPES), st.floats(3.2, 8.4), st.floats(10, 22), st.floats(10, 22))
def test_coverage_of_a_pixel_agrees_with_the_outline_of_the_shape(
    shape: str, radius: float, x: float, y: float
) -> None:
    cover = coverage(shape, radius, x, y)
    middle, edge = np.arange(SIDE_PIXELS) + 0.5, np.arange(SIDE_PIXELS + 1.0)
    # pixels whose centre lies inside are covered by half or more (ties are rounding errors)
    sure = np.abs(cover - 0.5) > 1e-9
    held = inside(shape, radius, middle[None, :] - x, middle[:, None] - y)
    assert np.array_equal(cover[sure] > 0.5, held[sure])
    # pixels with all four corners inside are covered completely
    at = inside(shape, radius, edge[None, :] - x, edge[:, None] - y)
    whole = at[1:, 1:] & at[1:, :-1] & at[:-1, 1:] & at[:-1, :-1]
    assert whole.any() and cover[whole] == pytest.approx(1, abs=1e-9)
    # anti-aliasing: a shift by a quarter of a pixel changes no coverage by more than that
    moved = coverage(shape, radius, x + 0.25, y)
    assert np.abs(moved - cover).max() <= 0.25 + 1e-9


def test_objects_of_every_fitting_scene_are_placed_apart_and_in_their_relation() -> None:
    largest = {size: middle + spread for size, (middle, spread) in RADIUS_PIXELS.items()}
    for number, scene in enumerate(fitting_scenes()):
        kinds = scene.kinds
        radius = np.array([largest[kind.size] for kind in kinds])
        centres = place_objects(scene, radius, np.random.default_rng(number))
        sizes = [extents(kind.shape, r) for kind, r in zip(kinds, radius, strict=True)]
        # (n, 4): left, top, right, bottom
        boxes = np.array(
            [
                (x - side, y - up, x + side, y + down)
                for (x, y), (side, up, down) in zip(centres, sizes, strict=True)
            ]
        )
        gap = MIN_GAP_PIXELS - 1e-9  # up to rounding
        assert boxes.min() >= gap and boxes.max() <= SIDE_PIXELS - gap, scene
        for a, b in combinations(boxes, 2):
            assert max(*(b[:2] - a[2:]), *(a[:2] - b[2:])) >= gap, scene
        if scene.second is not None:
            assert_related(centres[: scene.first.count], scene, centres[scene.first.count :])


def assert_related(first: Floats, scene: Scene, others: Floats) -> None:
    """The relation holds between all objects of both groups, more clearly than any other."""
    towards = {"to the left of": (1, 0), "to the right of": (-1, 0), "above": (0, 1)}
    axis = np.array(towards.get(scene.relation, (0, -1)))
    for a, b in product(first, others):
        step = b - a
        assert step @ axis > np.abs(step @ axis[::-1]), scene


def test_extents_bound_the_shape() -> None:
    fine = np.arange(-12, 12, 0.02) + 0.01
    for shape, radius in product(SHAPES, (3.2, 8.4)):
        rows, columns = np.nonzero(inside(shape, radius, fine[None, :], fine[:, None]))
        bounds = -fine[columns.min()], fine[columns.max()], -fine[rows.min()], fine[rows.max()]
        side, up, down = extents(shape, radius)
        assert bounds == pytest.approx((side, side, up, down), abs=0.05)


def near(image: Image.Image, colour: str, distance: float = 0.16) -> Bools:
    """(32, 32) mask of the pixels of a colour; any two colours differ by more than 2 · 0.16."""
    pixels = np.asarray(image) / 255
    mask: Bools = np.abs(pixels - COLOUR_RGB[colour]).max(axis=2) < distance
    return mask


def test_scene_whose_objects_do_not_fit_is_an_error() -> None:
    # six squares of 14 pixels, where four fit
    first, second = (Group(Kind("large", colour, "square"), 3) for colour in ("red", "blue"))
    with pytest.raises(DataError, match="do not fit into the image: 'three large red"):
        render_scene(Scene(first, "above", second), 0)


def test_image_depends_only_on_its_scene_and_key() -> None:
    scenes = [parse(name) for name in ("a small red circle", "two small pink crosses")]
    pairs = list(product(scenes, range(20)))
    images = [render_scene(scene, key).tobytes() for scene, key in pairs]
    again = [render_scene(scene, key).tobytes() for scene, key in reversed(pairs)]
    assert again[::-1] == images
    assert len(set(images)) == len(images)
    image = render_scene(scenes[0], 0)
    assert (image.size, image.mode) == ((32, 32), "RGB")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_object_is_rendered_at_its_position_and_in_its_size(
    size: str, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[Floats] = []

    def recorded(*given: Any) -> Floats:
        placed.append(place_objects(*given))
        return placed[-1]

    monkeypatch.setattr(render, "place_objects", recorded)
    middle, spread = RADIUS_PIXELS[size]
    for key in range(20):
        image = render_scene(Scene(Group(Kind(size, "red", shape))), key)
        red = near(image, "red", 0.3)
        ((x, y),) = placed[-1]
        # covers the smallest radius of its size, and nothing beyond the largest
        assert red[coverage(shape, middle - spread, x, y) == 1].all()
        assert not red[coverage(shape, middle + spread, x, y) == 0].any()


def test_colour_of_an_object_changes_only_its_own_pixels() -> None:
    for key, shape in product(range(10), SHAPES):
        red, blue = (
            np.asarray(render_scene(Scene(Group(Kind("medium", colour, shape))), key))
            for colour in ("red", "blue")
        )
        changed = (red != blue).any(axis=2)
        rows, columns = np.nonzero(changed)
        assert rows.size
        side, up, down = extents(shape, sum(RADIUS_PIXELS["medium"]))
        # rounded to whole pixels, with half a pixel of edge on either side
        assert np.ptp(columns) <= 2 * side + 2 and np.ptp(rows) <= up + down + 2


def test_any_two_colours_differ_clearly() -> None:
    assert tuple(COLOUR_RGB) == COLOURS
    for a, b in combinations(COLOUR_RGB.values(), 2):
        assert np.abs(np.subtract(a, b)).max() > 2 * 0.16


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_image_shows_the_objects_of_its_sentence(name: str, split: str) -> None:
    dataset = load(name, split)
    for item in dataset.items[:120]:
        image, scene = item.open(), parse(dataset.class_names[item.class_index])
        centres: dict[str, Floats] = {}
        for colour in COLOURS:
            # connected pixels, diagonals included, are one object
            pieces, count = ndimage.label(near(image, colour), np.ones((3, 3)))
            assert count == sum(kind.colour == colour for kind in scene.kinds), (item, scene)
            middles = ndimage.center_of_mass(pieces > 0, pieces, range(1, count + 1))
            centres[colour] = np.array(middles).reshape(count, 2)[:, ::-1]  # x, y
        if scene.second is not None and scene.first.kind.colour != scene.second.kind.colour:
            first, second = (centres[group.kind.colour] for group in scene.groups)
            assert_related(first, scene, second)


def test_larger_sizes_cover_more_pixels_in_every_image() -> None:
    for shape in SHAPES:
        pixels = {
            size: [
                int(near(render_scene(Scene(Group(Kind(size, colour, shape))), key), colour).sum())
                for colour, key in product(COLOURS, range(15))
            ]
            for size in SIZES
        }
        assert max(pixels["small"]) < min(pixels["medium"])
        assert max(pixels["medium"]) < min(pixels["large"])
