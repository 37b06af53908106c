"""Images of a person's own: one folder a class."""

from __future__ import annotations

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
    classes = sorted(p.name for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [
        (label, path)
        for label, name in enumerate(classes)
        for path in sorted((base / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not files:
        raise DataError(
            "no image found",
            given=str(base),
            allowed=f"CLASS/*, files ending in {' '.join(sorted(SUFFIXES))}",
        )
    return Dataset(
        name=f"folder:{root.name}",
        split=split,
        class_names=tuple(classes),
        items=tuple(
            Item(path.relative_to(base).as_posix(), label, _opener(path)) for label, path in files
        ),
        revision=content_hash(*(part for _, path in files for part in _signature(path, base))),
    )


def _opener(path: Path) -> Callable[[], Image.Image]:
    return lambda: load_image(path)


def _signature(path: Path, base: Path, head: int = 65536) -> tuple[str, bytes]:
    # name, size and the first 64 KiB tell images apart without reading a large set twice
    with open(path, "rb") as file:
        start = file.read(head)
    return f"{path.relative_to(base).as_posix()} {path.stat().st_size}", start
