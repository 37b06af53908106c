"""Flowers-102 in its original layout: one folder of images, labels and splits in MATLAB files.

Nilsback and Zisserman 2008, "Automated Flower Classification over a Large Number of Classes".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.files import (
    dataset_of_list,
    find_folder,
    read_json_object,
    torchvision_classes,
    unreadable_file,
)
from diffcls.support.errors import DataError

LABELS_FILE, SPLITS_FILE, NAMES_FILE = "imagelabels.mat", "setid.mat", "cat_to_name.json"
SPLIT_VARIABLES = {"test": "tstid", "validation": "valid", "train": "trnid"}


def load(query: Query) -> Dataset | None:
    """The split ``test`` (6,149 images), ``validation`` or ``train`` (1,020 each).

    The archive contains no class names. They are read from a ``cat_to_name.json`` (class from 1 ->
    name) in the same folder if there is one, otherwise from torchvision.

    Raises:
        DataError: if a file is missing or malformed, no listed image exists, or there is neither a
            file of class names nor torchvision.
    """
    root = find_folder(query, ("flowers-102",), (LABELS_FILE, SPLITS_FILE))
    if root is None:
        return None
    labels = _read_integers(root / LABELS_FILE, "labels")
    images = _read_integers(root / SPLITS_FILE, SPLIT_VARIABLES[query.split])
    if not len(images) or images.min() < 1 or images.max() > len(labels):
        raise DataError(
            f"{SPLITS_FILE} and {LABELS_FILE} are inconsistent",
            given=f"images up to {images.max(initial=0)} of {len(labels)}",
            todo="unpack the archive again",
        )
    names = class_names(root)
    # images and classes are counted from 1
    files = [(root / "jpg" / f"image_{i:05d}.jpg", int(labels[i - 1]) - 1) for i in images]
    return dataset_of_list(query, files, root, names, archive="102flowers.tgz")


def class_names(root: Path) -> list[str]:
    """Names by class index, from a file in the folder or from torchvision.

    Raises:
        DataError: if there is neither the file nor torchvision.
    """
    path = root / NAMES_FILE
    if path.is_file():
        named = read_json_object(path)
        keys = [str(i + 1) for i in range(len(named))]
        if set(named) != set(keys):
            raise DataError(
                "file does not name every class",
                given=str(path),
                allowed='the keys "1", "2", … without gaps',
            )
        return [str(named[key]) for key in keys]
    return torchvision_classes("Flowers102", "Flowers-102", f"a {NAMES_FILE} in {root}")


def _read_integers(path: Path, name: str) -> Any:
    """(N,) integers of a variable in a MATLAB file."""
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(path)[name]).ravel().astype(np.int64)
    except Exception as error:  # malformed files raise exceptions of many types
        raise unreadable_file(path, error) from error
