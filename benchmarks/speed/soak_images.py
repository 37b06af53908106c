"""Images of the soak benchmark: copies of the digits, shifted by a few pixels, as PNG files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHIFTS = [(x, y) for x in (0, -1, 1, -2, 2) for y in (0, -1, 1, -2, 2)]
"""Shifts in pixels, the smallest first."""


def write_images(folder: Path, count: int) -> None:
    """Write images of the digits' test split, and shifted copies of them, as FOLDER/CLASS/N.png.

    Every image has a path of its own; with more images than there are shifts, some are equal.

    Args:
        folder: the folder, made by this.
        count: number of images.
    """
    from diffcls.data.load import load_dataset

    digits = load_dataset("digits", "test")
    arrays = [np.asarray(item.open().convert("L")) for item in digits.items]
    for name in digits.class_names:
        (folder / name).mkdir(parents=True)
    for number, (which, shift) in enumerate(_copies(len(arrays), count)):
        name = digits.class_names[digits.items[which].label]
        _write(folder / name / f"{number:06}.png", np.roll(arrays[which], shift, (0, 1)))


def _copies(images: int, count: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """(image, shift) of each copy: all images with the first shift, then with the second."""
    for number in range(count):
        yield number % images, SHIFTS[number // images % len(SHIFTS)]


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)
