"""Pictures of an edit: original beside edit, and where each word is seen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.data.transforms import to_image
from diffcls.support.errors import UsageError
from diffcls.support.files import write_bytes

if TYPE_CHECKING:
    from PIL import Image

    from diffcls.editing.edit import Edit

TILE_PIXELS = 192
"""Side of a tile."""
CAPTION_PIXELS = 20
GAP = 4
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def strip(pictures: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Pictures side by side, each under its caption."""
    return grid([[*zip(captions, pictures, strict=True)]])


def attention(edit: Edit) -> Image.Image:
    """Attention to each word: a row for the source prompt, a row for the target.

    Bright positions are where the word is seen; each tile is scaled to its own largest value.
    """
    pictures = to_image(edit.reconstruction), to_image(edit.image)
    rows = []
    for words, maps, picture in zip(edit.words, edit.maps.numpy(), pictures, strict=True):
        tiles = [("", picture)]
        for word, tokens in zip(words.words, words.tokens, strict=True):
            tiles.append((word, lit(picture, maps[list(tokens)].sum(axis=0))))
        rows.append(tiles)
    return grid(rows)


def lit(picture: Image.Image, values: NDArray[np.float32]) -> Image.Image:
    """A picture that is dark where a map (h, w) is small."""
    from PIL import Image

    spread = float(values.max() - values.min()) or 1.0
    light = np.rint((values - values.min()) / spread * 255).astype(np.uint8)
    mask = Image.fromarray(light).resize(picture.size, Image.Resampling.BILINEAR)
    dark = Image.fromarray(np.asarray(picture) // 5)
    return Image.composite(picture, dark, mask)


def grid(rows: Sequence[Sequence[tuple[str, Image.Image]]], caption_lines: int = 1) -> Image.Image:
    """Rows of tiles (caption, picture) of one size; captions have so many lines at most."""
    from PIL import Image, ImageDraw

    columns = max(map(len, rows))
    above = caption_lines * CAPTION_PIXELS
    width, height = TILE_PIXELS + GAP, TILE_PIXELS + GAP + above
    canvas = Image.new("RGB", (columns * width + GAP, len(rows) * height + GAP), WHITE)
    draw = ImageDraw.Draw(canvas)
    for i, row in enumerate(rows):
        for j, (caption, picture) in enumerate(row):
            left, top = GAP + j * width, GAP + i * height
            draw.text((left, top), caption, fill=BLACK)
            tile = picture.resize((TILE_PIXELS, TILE_PIXELS), Image.Resampling.NEAREST)
            canvas.paste(tile, (left, top + above))
    return canvas


def save(path: Path, picture: Image.Image) -> None:
    """Write a picture as PNG, atomically.

    Raises:
        UsageError: for another ending, or a folder that cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError("ending of the file is unknown", given=str(path), allowed=".png")
    data = io.BytesIO()
    picture.save(data, format="PNG")
    write_bytes(path, data.getvalue())
