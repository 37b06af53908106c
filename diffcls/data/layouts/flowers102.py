"""Flowers-102 as its makers pack it: all images in one folder, labels and splits as MATLAB files.

Nilsback and Zisserman 2008, "Automated Flower Classification over a Large Number of Classes".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.files import place, table, unreadable
from diffcls.data.sources.folder import of_files
from diffcls.support.errors import DataError

LABELS, SPLITS, NAMES = "imagelabels.mat", "setid.mat", "cat_to_name.json"
PARTS = {"test": "tstid", "validation": "valid", "train": "trnid"}


def load(query: Query) -> Dataset | None:
    """The split ``test`` (6,149 images), ``validation`` or ``train`` (1,020 each).

    The archive has no names: they are torchvision's, or those of a ``cat_to_name.json`` beside the
    labels (class from 1 -> name).

    Raises:
        DataError: when a file is missing or broken, or nobody knows the names.
    """
    root = place(query, ("flowers-102",), (LABELS, SPLITS))
    if root is None:
        return None
    labels = _numbers(root / LABELS, "labels")
    chosen = _numbers(root / SPLITS, PARTS[query.split])
    if not len(chosen) or chosen.min() < 1 or chosen.max() > len(labels):
        raise DataError(
            f"{SPLITS} and {LABELS} do not fit together",
            given=f"images up to {chosen.max(initial=0)} of {len(labels)}",
        )
    names = class_names(root)
    # images and classes count from 1
    files = [(root / "jpg" / f"image_{i:05d}.jpg", int(labels[i - 1]) - 1) for i in chosen]
    if not any(path.is_file() for path, _ in files):
        raise DataError(
            "none of the listed images is there", given=str(root / "jpg"), todo="unpack 102flowers"
        )
    return of_files(files, root, query.spec.name, query.split, names)


def class_names(root: Path) -> list[str]:
    """The names by class index.

    Raises:
        DataError: where there is neither a file of them nor torchvision.
    """
    path = root / NAMES
    if path.is_file():
        named = table(path)
        keys = [str(i + 1) for i in range(len(named))]
        if set(named) != set(keys):
            raise DataError("not the names of all classes", given=str(path), allowed='"1", "2", …')
        return [str(named[key]) for key in keys]
    try:
        from torchvision.datasets import Flowers102
    except ImportError as error:
        raise DataError(
            "the class names of Flowers-102 are torchvision's, and it is not installed",
            allowed=f"a {NAMES} in {root}",
            todo='pip install "diffcls[clip]"',
        ) from error
    return list(Flowers102.classes)


def _numbers(path: Path, name: str) -> Any:
    """The whole numbers (N,) of a variable in a MATLAB file."""
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(path)[name]).ravel().astype(np.int64)
    except Exception as error:  # each kind of damage has its own
        raise unreadable(path, error) from error
