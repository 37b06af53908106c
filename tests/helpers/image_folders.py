"""Small image folders: a tree of paths, each with its content."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import Image

THREE = [f"{name}/{i}.png" for name in ("cat", "dog", "owl") for i in range(2)]
"""Two images of each of three classes."""


@cache
def encoded(kind: str = "PNG", mode: str = "L", gray: int = 128) -> bytes:
    """A gray image of 4x4 pixels in a format of Pillow."""
    file = io.BytesIO()
    Image.new(mode, (4, 4), gray).save(file, kind)
    return file.getvalue()


def tree(root: Path, paths: Iterable[str], content: bytes | None = None) -> str:
    """Write a file for each path, an image unless `content` is given; the data set's name."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encoded() if content is None else content)
    return f"folder:{root}"


def in_folders(*folders: str) -> list[str]:
    """The paths of `THREE` in each of the folders."""
    return [f"{folder}/{path}" for folder in folders for path in THREE]
