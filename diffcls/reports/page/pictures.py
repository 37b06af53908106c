"""Small pictures for a page: thumbnails as ``data:`` URLs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcls.data.dataset import Item
from diffcls.support.errors import DiffclsError

if TYPE_CHECKING:
    from PIL import Image

SIDE = 96
"""Longest side of a thumbnail in pixels; smaller images keep their size."""
WEBP_QUALITY = 75


@dataclass(frozen=True)
class Thumbnail:
    """A picture in the page itself: its ``data:`` URL, and its size in pixels."""

    url: str
    width: int
    height: int


def thumbnail(image: Image.Image) -> Thumbnail:
    """A thumbnail as PNG or WebP, whichever is smaller; equal images give equal bytes."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    if all(band.tobytes() == small.getchannel(0).tobytes() for band in small.split()):
        small = small.convert("L")
    files = {"png": io.BytesIO(), "webp": io.BytesIO()}
    small.save(files["png"], "PNG", optimize=True)
    small.save(files["webp"], "WEBP", quality=WEBP_QUALITY, method=6)
    kind, file = min(files.items(), key=lambda pair: len(pair[1].getvalue()))
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/{kind};base64,{data}", small.width, small.height)


class Thumbnails:
    """Thumbnails of a data set's images; each is made once.

    Args:
        items: image id -> image.
    """

    def __init__(self, items: Mapping[str, Item]) -> None:
        self._items = items
        self._made: dict[str, Thumbnail | None] = {}

    def of(self, image_id: str) -> Thumbnail | None:
        """The thumbnail of an image; None where it is missing or cannot be read."""
        if image_id not in self._made:
            item = self._items.get(image_id)
            try:
                self._made[image_id] = None if item is None else thumbnail(item.open())
            except (DiffclsError, OSError, ValueError):
                self._made[image_id] = None
        return self._made[image_id]
