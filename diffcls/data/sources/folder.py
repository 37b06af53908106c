"""Image folders: one folder per class, or a table with one sentence per image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item, content_hash
from diffcls.data.sources import captions_table
from diffcls.data.subsets import hold_out
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
HELD_OUT = ("train", "validation")
SPLIT_FOLDERS = {
    "test": ("test", "val", "validation"),
    "validation": ("validation", "val"),
    "train": ("train",),
}


def load(query: Query) -> Dataset:
    """``folder:PATH``, see `find`.

    Raises:
        DataError: when the folder is missing, or holds no image.
    """
    root = query.root
    if root is None or not root.is_dir():
        raise DataError(
            "image folder not found", given=str(root), allowed="a folder with one folder a class"
        )
    dataset = read(root, query.split, f"folder:{text(root.resolve().name)}")
    if dataset is None:
        raise DataError(
            "no image found",
            given=str(_base(root, query.split)),
            allowed=f"CLASS/*, files ending in {' '.join(sorted(IMAGE_SUFFIXES))}; "
            f"or {captions_table.TABLES[0]} with file_name and text",
        )
    if query.split in HELD_OUT and _base(root, query.split) == root:
        # all that there is lies in one heap: a tenth of it is kept from training
        # whichever part is asked for, it is the same cut, and the cut depends on the split's name
        heap = replace(dataset, split="train")
        rest, part = hold_out(heap, max(1, len(heap) // 10))
        dataset = replace(rest if query.split == "train" else part, split=query.split)
    if dataset.sentences and query.split != "train":
        dataset = captions_table.with_candidates(dataset)
    return dataset


def find(query: Query) -> Dataset | None:
    """A known data set's images, one folder a class, in the root or in the folder of its name."""
    if query.root is None:
        return None
    below = query.root / query.spec.name
    root = below if below.is_dir() else query.root
    return read(root, query.split, query.spec.name)


def read(root: Path, split: str, name: str) -> Dataset | None:
    """``ROOT/SPLIT/CLASS/*`` where there is a folder of the split, else ``ROOT/CLASS/*``.

    Where there is a table of captions in place of the classes, see
    `diffcls.data.sources.captions_table`. Classes are the folders, in the order of their names;
    underscores in a name are left as they are. Files that are not images by their suffix are
    passed over. None where there is no image.

    Raises:
        DataError: when there are folders of other splits only.
    """
    base = _base(root, split)
    table = captions_table.table_in(base)
    if table is not None:
        rows = captions_table.read_table(table)
        sentences = sorted({sentence for _, sentence in rows})
        place = {sentence: k for k, sentence in enumerate(sentences)}
        files = [(path, place[sentence]) for path, sentence in rows]
        return replace(dataset_of_files(files, base, name, split, sentences), sentences=True)
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
        (path, label)
        for label, folder in enumerate(folders)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]
    class_names = [text(folder.name) for folder in folders]
    return dataset_of_files(files, base, name, split, class_names) if files else None


def dataset_of_files(
    files: Sequence[tuple[Path, int]],
    base: Path,
    name: str,
    split: str,
    class_names: Sequence[str],
    prompt_names: Sequence[str] = (),
) -> Dataset:
    """A data set of image files.

    Args:
        files: path and class index of each image.
        base: the folder that the image ids are relative to.
        name, split, class_names, prompt_names: see `Dataset`.
    """
    return Dataset(
        name=name,
        split=split,
        class_names=tuple(class_names),
        items=tuple(Item(_id(path, base), label, _opener(path)) for path, label in files),
        revision=content_hash(*(part for path, _ in files for part in _signature(path, base))),
        prompt_names=tuple(prompt_names),
    )


def _base(root: Path, split: str) -> Path:
    names = SPLIT_FOLDERS.get(split, (split,))
    return next((root / name for name in names if (root / name).is_dir()), root)


def _opener(path: Path) -> Callable[[], Image.Image]:
    return lambda: load_image(path)


def _signature(path: Path, base: Path) -> tuple[str, bytes]:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError:  # it will be recorded as an image that cannot be read
        digest = b""
    return _id(path, base), digest


def _id(path: Path, base: Path) -> str:
    return text(path.relative_to(base).as_posix())


def text(name: str) -> str:
    """A file's name as text: names are bytes, and what is no UTF-8 of them is spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
