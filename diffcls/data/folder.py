"""Images of a person's own: one folder a class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.data.dataset import Dataset, Item, content_hash
from diffcls.errors import DataError
from diffcls.transforms import load_image

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
SPLIT_FOLDERS = {
    "test": ("test", "val", "validation"),
    "validation": ("validation", "val"),
    "train": ("train",),
}


def load(split: str, root: Path | None) -> Dataset:
    """``ROOT/SPLIT/CLASS/*`` where there is a folder of the split, else ``ROOT/CLASS/*``.

    Classes are the folders, in the order of their names; underscores in a name are left as they
    are. Files that are not images by their suffix are passed over.

    Raises:
        DataError: when the folder is missing, or holds no image.
    """
    if root is None or not root.is_dir():
        raise DataError(
            "image folder not found", given=str(root), allowed="a folder with one folder a class"
        )
    names = SPLIT_FOLDERS.get(split, (split,))
    base = next((root / name for name in names if (root / name).is_dir()), root)
    folders = sorted(p for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))
    splits = {name for names in SPLIT_FOLDERS.values() for name in names}
    if base == root and folders and {folder.name for folder in folders} <= splits:
        raise DataError(
            "no folder of this split",
            given=split,
            allowed=[folder.name for folder in folders],
            todo=f"else these would pass for the classes of {root}",
        )
    files = [
        (label, path)
        for label, folder in enumerate(folders)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not files:
        raise DataError(
            "no image found",
            given=str(base),
            allowed=f"CLASS/*, files ending in {' '.join(sorted(SUFFIXES))}",
        )
    return Dataset(
        name=f"folder:{_text(root.resolve().name)}",
        split=split,
        class_names=tuple(_text(folder.name) for folder in folders),
        items=tuple(Item(_name(path, base), label, _opener(path)) for label, path in files),
        revision=content_hash(*(part for _, path in files for part in _signature(path, base))),
    )


def _opener(path: Path) -> Callable[[], Image.Image]:
    return lambda: load_image(path)


def _signature(path: Path, base: Path) -> tuple[str, bytes]:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError:  # it will be recorded as an image that cannot be read
        digest = b""
    return _name(path, base), digest


def _name(path: Path, base: Path) -> str:
    return _text(path.relative_to(base).as_posix())


def _text(name: str) -> str:
    # a file's name is bytes: what is no UTF-8 is spelled out, so that it can be written down
    return os.fsencode(name).decode("utf-8", "backslashreplace")
