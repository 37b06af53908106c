"""Fashion-MNIST as its makers pack it: idx files, as they are or gzipped.

Xiao, Rasul and Vollgraf 2017 (arXiv:1708.07747). The idx format is MNIST's: two zero bytes, a type
(8: unsigned bytes), the number of dimensions, each dimension as a big-endian uint32, the values.
"""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.layouts.files import place, unreadable
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash

PREFIX = {"test": "t10k", "train": "train"}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
ENDS = ("", ".gz")


def load(query: Query) -> Dataset | None:
    """The split ``test`` (10,000 gray images of 28×28) or ``train`` (60,000).

    Found in ``FashionMNIST/raw`` or ``raw``, in ``fashion_mnist``, or in the root itself.

    Raises:
        DataError: when a file is missing or broken, or torchvision, which has the names, is.
    """
    every = [f"{p}-{kind}{gz}" for p in PREFIX.values() for kind in (IMAGES, LABELS) for gz in ENDS]
    folder = place(query, ("FashionMNIST/raw", "raw"), every)
    if folder is None:
        return None
    prefix = PREFIX[query.split]
    images = read_idx(folder / f"{prefix}-{IMAGES}", (28, 28))
    labels = read_idx(folder / f"{prefix}-{LABELS}", ())
    if len(images) != len(labels):
        raise DataError(
            "images and labels differ in number",
            given=(len(images), len(labels)),
            todo=f"get the files in {folder} again",
        )
    return Dataset(
        name=query.spec.name,
        split=query.split,
        class_names=class_names(),
        items=tuple(
            Item(f"{query.split}/{i}", int(label), partial(load_image, image))
            for i, (image, label) in enumerate(zip(images, labels, strict=True))
        ),
        revision=content_hash(images.tobytes(), labels.tobytes()),
    )


def class_names() -> tuple[str, ...]:
    """The ten names, which the files do not have: torchvision's.

    Raises:
        DataError: where torchvision is not installed.
    """
    try:
        from torchvision.datasets import FashionMNIST
    except ImportError as error:
        raise DataError(
            "the class names of Fashion-MNIST are torchvision's, and it is not installed",
            todo='pip install "diffcls[clip]"',
        ) from error
    return tuple(FashionMNIST.classes)


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes, or its gzipped copy beside it.

    Args:
        path: without ``.gz``.
        shape: of one entry.

    Returns:
        (N, *shape) uint8.

    Raises:
        DataError: when it is missing, of another type or shape, too short or too long.
    """
    gzipped = not path.is_file()
    if gzipped:
        path = path.with_name(path.name + ".gz")
    n_dims = 1 + len(shape)
    try:
        with gzip.open(path) if gzipped else open(path, "rb") as file:
            magic = file.read(4)
            dims = np.frombuffer(file.read(4 * n_dims), ">u4").tolist()
            good = magic == bytes((0, 0, 8, n_dims)) and tuple(dims[1:]) == shape and dims[0] > 0
            # one byte more than there should be tells a file that is too long
            data = file.read(prod(dims) + 1) if good else b""
    except (OSError, EOFError, ValueError, MemoryError, OverflowError, zlib.error) as error:
        raise unreadable(path, error) from error
    if not good or len(data) != prod(dims):
        raise DataError(
            "not a whole idx file of the right type and shape",
            given=f"{path}, magic {magic.hex()}, dimensions {dims}",
            allowed=f"unsigned bytes of shape {('N', *shape)}".replace("'", ""),
            todo="get the file again",
        )
    return np.frombuffer(data, np.uint8).reshape(dims)
