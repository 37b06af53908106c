"""Image folders: one folder per class, or a table with one sentence per image."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.sources import captions_table
from diffcls.data.subsets import hold_out
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash, file_digest

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
TRAINING_SPLITS = ("train", "validation")
SPLIT_FOLDERS = {
    "test": ("test", "val", "validation"),
    "validation": ("validation", "val"),
    "train": ("train",),
}


def load(query: Query) -> Dataset:
    """A split of ``folder:PATH``, see `read`.

    Without a folder of the split, the whole folder is the test split, and a fixed, stratified tenth
    of it is held out of ``train`` as ``validation``.

    Raises:
        DataError: if the folder is missing, or contains no image.
    """
    root = query.root
    if root is None or not root.is_dir():
        raise DataError(
            "--dataset folder:PATH: image folder not found",
            given=str(root),
            allowed="a folder with one folder per class",
            todo="check the path",
        )
    dataset = read(root, query.split, f"folder:{decode_name(root.resolve().name)}")
    if dataset is None:
        raise DataError(
            "--dataset folder:PATH: image folder contains no image",
            given=str(_split_folder(root, query.split)),
            allowed=f"CLASS/*, files ending in {' '.join(sorted(IMAGE_SUFFIXES))}; "
            f"or {captions_table.TABLE_NAMES[0]} with file_name and text",
        )
    if query.split in TRAINING_SPLITS and _split_folder(root, query.split) == root:
        # the sample depends on the split's name, so both splits are cut from "train"
        whole = replace(dataset, split="train")
        rest, part = hold_out(whole, max(1, len(whole) // 10))
        dataset = replace(rest if query.split == "train" else part, split=query.split)
    if dataset.sentences and query.split != "train":
        dataset = captions_table.with_candidates(dataset)
    return dataset


def find(query: Query) -> Dataset | None:
    """Images of a data set of the catalog, one folder per class; None if there are none.

    The classes are folders of the root, or of a folder with the data set's name below it.
    """
    if query.root is None:
        return None
    own = query.root / query.spec.name
    root = own if own.is_dir() else query.root
    return read(root, query.split, query.spec.name)


def read(root: Path, split: str, name: str) -> Dataset | None:
    """Images in ``ROOT/SPLIT/CLASS/*``, or in ``ROOT/CLASS/*`` if there is no folder of the split.

    Classes are the folders in the order of their names, which are kept with their underscores.
    Files without an image suffix are ignored. A table of captions in place of the classes is read
    by `diffcls.data.sources.captions_table`.

    Returns:
        The data set; None if there is no image.

    Raises:
        DataError: if the root contains only folders of other splits.
    """
    base = _split_folder(root, split)
    table = captions_table.find_table(base)
    if table is not None:
        rows = captions_table.read_table(table)
        sentences = sorted({sentence for _, sentence in rows})
        label_of = {sentence: k for k, sentence in enumerate(sentences)}
        files = [(path, label_of[sentence]) for path, sentence in rows]
        return replace(dataset_of_files(files, base, name, split, sentences), sentences=True)
    folders = sorted(p for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))
    splits = {name for names in SPLIT_FOLDERS.values() for name in names}
    if base == root and folders and {folder.name for folder in folders} <= splits:
        raise DataError(
            f"--split: {root} has no folder of this split",
            given=split,
            allowed=[folder.name for folder in folders],
            todo="choose one of these splits",
        )
    files = [
        (path, label)
        for label, folder in enumerate(folders)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]
    class_names = [decode_name(folder.name) for folder in folders]
    return dataset_of_files(files, base, name, split, class_names) if files else None


def dataset_of_files(
    files: Sequence[tuple[Path, int]],
    base: Path,
    name: str,
    split: str,
    class_names: Sequence[str],
    prompt_names: Sequence[str] = (),
) -> Dataset:
    """Data set of image files.

    Args:
        files: (n,) path and class index of each image.
        base: folder that the image ids are relative to.
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


def _split_folder(root: Path, split: str) -> Path:
    names = SPLIT_FOLDERS.get(split, (split,))
    return next((root / name for name in names if (root / name).is_dir()), root)


def _opener(path: Path) -> Callable[[], Image.Image]:
    return lambda: load_image(path)


def _signature(path: Path, base: Path) -> tuple[str, bytes]:
    try:
        digest = file_digest(path)
    except OSError:  # the run records it as an image that cannot be read
        digest = b""
    return _id(path, base), digest


def _id(path: Path, base: Path) -> str:
    return decode_name(path.relative_to(base).as_posix())


def decode_name(name: str) -> str:
    """The name of a file as valid text; bytes that are not UTF-8 become escape sequences."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
