"""Grids of labelled images as PNG, and animations as GIF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diffcls.support.files import write_bytes

SIDE = 96
"""Side in pixels that small images are enlarged to, about."""
GAP, LINE = 4, 14
"""Pixels between images, and height of a label."""
BACKGROUND, TEXT_COLOUR = (255, 255, 255), (30, 30, 30)

Pixels = NDArray[np.uint8]


def to_bytes(images: object) -> Pixels:
    """Images (n, 3, H, W) in [−1, 1] -> (n, H, W, 3) uint8; values beyond are clipped."""
    array = np.asarray(images, dtype=np.float32)
    pixels: Pixels = np.rint((array.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    return pixels


def enlarged(pixels: Pixels) -> Image.Image:
    """An image, enlarged by a whole factor if it is smaller than `SIDE`."""
    image = Image.fromarray(pixels)
    factor = max(1, round(SIDE / max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def grid(rows: Sequence[tuple[str, Sequence[Pixels]]]) -> Image.Image:
    """Rows of images, each row below its label.

    Args:
        rows: (label, images (H, W, 3)); all images of one size.
    """
    cells = [(label, [enlarged(one) for one in images]) for label, images in rows]
    width, height = cells[0][1][0].size
    columns = max(len(images) for _, images in cells)
    size = (GAP + columns * (width + GAP), len(cells) * (LINE + height + GAP) + GAP)
    sheet = Image.new("RGB", size, BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for r, (label, images) in enumerate(cells):
        top = GAP + r * (LINE + height + GAP)
        pen.text((GAP, top - 2), label, fill=TEXT_COLOUR, font=font)
        for c, image in enumerate(images):
            sheet.paste(image, (GAP + c * (width + GAP), top + LINE))
    return sheet


def write_png(path: Path, image: Image.Image) -> None:
    """Write an image as PNG, atomically."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    write_bytes(path, buffer.getvalue())


def write_animation(path: Path, frames: Sequence[Image.Image], seconds: float = 3.0) -> None:
    """Write frames as a GIF that loops and holds its last frame for a second.

    Args:
        path: path of the file.
        frames: images of one size.
        seconds: total duration of all frames but the last.
    """
    each = max(20, round(1000 * seconds / len(frames)))
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=list(frames[1:]),
        duration=[*[each] * (len(frames) - 1), 1000],
        loop=0,
    )
    write_bytes(path, buffer.getvalue())
