"""Data sets of idx files, plain or gzipped: MNIST and Fashion-MNIST.

The idx format: two zero bytes, the type (8: unsigned bytes), the number of dimensions, each
dimension as a big-endian uint32, the values.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.layouts.files import find_folder, unreadable_file
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash

SPLIT_PREFIXES = {"test": "t10k", "train": "train"}
IMAGES_FILE, LABELS_FILE = "images-idx3-ubyte", "labels-idx1-ubyte"
FILE_SUFFIXES = ("", ".gz")
WHOLE_SPLITS = (10_000, 60_000)
"""Numbers of images of the test and the training split of both data sets."""


def load(
    query: Query,
    folders: Iterable[str],
    class_names: Callable[[], Sequence[str]],
    balanced: bool,
) -> Dataset | None:
    """A split of gray images of 28×28; None if there are no idx files.

    The files of MNIST and of Fashion-MNIST have equal names, so one is easily taken for the other.
    Of Fashion-MNIST every class has equally many images, of MNIST not: a whole split is checked.

    Args:
        query: request for the images.
        folders: see `find_folder`.
        class_names: the ten names, called if the files are found.
        balanced: whether every class of a whole split has equally many images.

    Raises:
        DataError: if a file is missing or malformed, or the files are those of the other data set.
    """
    names = [
        f"{prefix}-{kind}{suffix}"
        for prefix in SPLIT_PREFIXES.values()
        for kind in (IMAGES_FILE, LABELS_FILE)
        for suffix in FILE_SUFFIXES
    ]
    folder = find_folder(query, folders, names)
    if folder is None:
        return None
    prefix = SPLIT_PREFIXES[query.split]
    images = read(folder / f"{prefix}-{IMAGES_FILE}", (28, 28))
    labels = read(folder / f"{prefix}-{LABELS_FILE}", ())
    if len(images) != len(labels):
        raise DataError(
            "images and labels differ in number",
            given=(len(images), len(labels)),
            todo=f"download the files in {folder} again",
        )
    counts = np.bincount(labels, minlength=10)
    if len(labels) in WHOLE_SPLITS and bool((counts == counts[0]).all()) != balanced:
        raise DataError(
            f"--data-root: the files are not those of {query.spec.name}",
            given=f"{folder}, {counts.tolist()} images per class",
            allowed="as many of each class" if balanced else "not as many of each class",
            todo="give the folder of the other data set, whose files have the same names",
        )
    return Dataset(
        name=query.spec.name,
        split=query.split,
        class_names=tuple(class_names()),
        items=tuple(
            Item(f"{query.split}/{i}", int(label), partial(load_image, image))
            for i, (image, label) in enumerate(zip(images, labels, strict=True))
        ),
        revision=content_hash(images.tobytes(), labels.tobytes()),
    )


def read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Content of an idx file of unsigned bytes, or of its gzipped copy.

    Args:
        path: path without ``.gz``; the gzipped copy is read if this file does not exist.
        shape: shape of one entry.

    Returns:
        (N, *shape) uint8.

    Raises:
        DataError: if it is missing, of another type or shape, too short or too long.
    """
    gzipped = not path.is_file()
    if gzipped:
        path = path.with_name(path.name + ".gz")
    n_dims = 1 + len(shape)
    try:
        with gzip.open(path) if gzipped else open(path, "rb") as file:
            magic = file.read(4)
            dims = np.frombuffer(file.read(4 * n_dims), ">u4").tolist()
            valid = magic == bytes((0, 0, 8, n_dims)) and tuple(dims[1:]) == shape and dims[0] > 0
            # one byte more than expected, to notice a file that is too long
            data = file.read(prod(dims) + 1) if valid else b""
    except (OSError, EOFError, ValueError, MemoryError, OverflowError, zlib.error) as error:
        raise unreadable_file(path, error) from error
    if not valid or len(data) != prod(dims):
        raise DataError(
            "file is not a complete idx file of the expected type and shape",
            given=f"{path}, magic {magic.hex()}, dimensions {dims}",
            allowed=f"unsigned bytes of shape {('N', *shape)}".replace("'", ""),
            todo="download the file again",
        )
    return np.frombuffer(data, np.uint8).reshape(dims)
