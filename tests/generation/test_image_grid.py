"""Grids, strips and animations, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffcls.data.transforms import to_pixels
from diffcls.generation.image_grid import (
    BACKGROUND,
    GAP,
    LINE,
    SIDE,
    Pixels,
    enlarged,
    grid,
    to_bytes,
    write_animation,
    write_png,
)


def noise(seed: int, side: int = 16) -> Pixels:
    """An image (H, W, 3) of random bytes."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def flat(shade: int, side: int = 16) -> Pixels:
    return np.full((side, side, 3), shade, dtype=np.uint8)


# ---- from a model's numbers to bytes -------------------------------------------------------------


def test_conversion_to_bytes_inverts_the_scaling() -> None:
    images = np.stack([noise(0), noise(1)])
    read = np.stack([to_pixels(Image.fromarray(one), 16) for one in images])  # as models see them
    np.testing.assert_array_equal(to_bytes(torch.from_numpy(read)), images)
    np.testing.assert_array_equal(to_bytes(read), images)


def test_values_beyond_white_and_black_are_clipped() -> None:
    found = to_bytes(
        torch.tensor([-7.0, -1.0, 0.0, 1.0, 7.0]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    )
    assert found.shape == (1, 1, 5, 3) and found.dtype == np.uint8
    assert found[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


# ---- images on a sheet ---------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "factor"), [(8, 12), (16, 6), (32, 3), (96, 1), (512, 1)])
def test_each_pixel_of_a_small_image_becomes_a_square(side: int, factor: int) -> None:
    image = noise(2, side)
    shown = np.asarray(enlarged(image))
    np.testing.assert_array_equal(shown, image.repeat(factor, axis=0).repeat(factor, axis=1))


def test_images_stand_in_rows_below_their_labels() -> None:
    rows = [("one", [noise(0), noise(1)]), ("two", [noise(2), noise(3), noise(4)])]
    sheet = np.asarray(grid(rows))
    step = SIDE + GAP
    assert sheet.shape == (2 * (LINE + step) + GAP, 3 * step + GAP, 3)
    rest = np.ones(sheet.shape[:2], dtype=bool)
    for r, (_, images) in enumerate(rows):
        for c, image in enumerate(images):
            top, left = GAP + r * (LINE + step) + LINE, GAP + c * step
            place = (slice(top, top + SIDE), slice(left, left + SIDE))
            np.testing.assert_array_equal(sheet[place], np.asarray(enlarged(image)))
            rest[place] = False
        label = sheet[top - LINE : top, :40]
        assert label.min() < 128, "no label above the row"
        rest[top - LINE - 2 : top] = False
    assert (sheet[rest] == BACKGROUND).all()


def test_png_is_read_back_as_it_was(tmp_path: Path) -> None:
    image = noise(5)
    write_png(tmp_path / "a.png", Image.fromarray(image))
    with Image.open(tmp_path / "a.png") as read:
        np.testing.assert_array_equal(np.asarray(read), image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# ---- films ---------------------------------------------------------------------------------------


def frames_of(path: Path) -> list[tuple[Pixels, int]]:
    """(pixels, milliseconds) of each frame."""
    with Image.open(path) as film:
        assert film.format == "GIF" and film.info["loop"] == 0  # round and round
        found = []
        for number in range(film.n_frames):
            film.seek(number)
            found.append((np.asarray(film.convert("RGB")), int(film.info["duration"])))
    return found


@pytest.mark.parametrize("count", [1, 2, 7])
def test_animation_shows_each_frame_and_holds_the_last(tmp_path: Path, count: int) -> None:
    shades = [20 * i for i in range(count)]
    write_animation(
        tmp_path / "a.gif", [Image.fromarray(flat(shade)) for shade in shades], seconds=1.4
    )
    found = frames_of(tmp_path / "a.gif")
    assert [int(pixels[0, 0, 0]) for pixels, _ in found] == shades
    each = round(1400 / count, -1)
    assert [milliseconds for _, milliseconds in found] == [each] * (count - 1) + [1000]


def test_animation_of_very_many_frames_keeps_the_minimum_frame_time(tmp_path: Path) -> None:
    frames = [Image.fromarray(flat(shade, 4)) for shade in range(200)]
    write_animation(tmp_path / "a.gif", frames)
    found = frames_of(tmp_path / "a.gif")
    # viewers take a hundredth of a second for a tenth
    assert len(found) == 200 and min(milliseconds for _, milliseconds in found) == 20
