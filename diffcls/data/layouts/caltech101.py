"""Caltech-101 in its original layout: one folder per category.

Fei-Fei, Fergus and Perona 2004, "Learning Generative Visual Models from Few Training Examples".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.image_tree import images_below
from diffcls.data.layouts.files import find_folder
from diffcls.data.sources.folder import dataset_of_files
from diffcls.support.errors import DataError

FOLDER = "101_ObjectCategories"
BACKGROUND = "BACKGROUND_Google"
"""Folder of arbitrary images, which is no category; torchvision leaves it out, too."""


def load(query: Query) -> Dataset | None:
    """All images of the categories (8,677 of 101) as ``test``: there is no official split.

    They are in ``101_ObjectCategories/CATEGORY/*.jpg``, in ``caltech101`` or ``caltech-101`` below
    the root or in the root. Classes are the folders in alphabetical order, capitals first, as in
    torchvision and the published script; in prompts, underscores become spaces.

    Raises:
        DataError: if a category has no image.
    """
    base = _base(query)
    if base is None:
        return None
    folders = sorted(
        path
        for path in base.iterdir()
        if path.is_dir() and path.name != BACKGROUND and not path.name.startswith(".")
    )
    files: list[tuple[Path, int]] = []
    passed_over: Counter[str] = Counter()
    for label, folder in enumerate(folders):
        paths = images_below(folder, passed_over)
        if not paths:
            raise DataError(
                "category without images",
                given=str(folder),
                allowed=f"{FOLDER}/CATEGORY/*.jpg",
                todo="unpack the archive again",
            )
        files += [(path, label) for path in paths]
    names = [folder.name for folder in folders]
    prompts = [name.replace("_", " ") for name in names]
    dataset = dataset_of_files(files, base, query.spec.name, query.split, names, prompts)
    return replace(dataset, passed_over=dict(passed_over))


def _base(query: Query) -> Path | None:
    """The folder of the categories."""
    parent = find_folder(query, ("caltech101", "caltech-101"), (FOLDER,))
    if parent is not None:
        return parent / FOLDER
    if query.root is not None and query.root.name == FOLDER:
        return query.root
    return find_folder(query, (), (BACKGROUND,))
