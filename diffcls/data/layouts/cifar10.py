"""CIFAR-10 as its makers pack it: the batches for Python or for C.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images". The batches for Python are
pickles, and reading one runs what it says: so they are read with only what these files need.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.layouts.files import content, lines, place, unreadable
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash

BATCHES = {"test": ("test_batch",), "train": tuple(f"data_batch_{i}" for i in range(1, 6))}
PIXELS = 3 * 32 * 32  # red, green and blue planes, row by row

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]
_NamesOf = Callable[[Path], list[str]]
_BatchOf = Callable[[Path], Batch]


def load(query: Query) -> Dataset | None:
    """The split ``test`` (10,000 images) or ``train`` (50,000), in the order of the batches.

    Found in ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, in the root or as the root.

    Raises:
        DataError: when a file is missing, cut short, or holds anything but images and labels.
    """
    found = _read(query)
    if found is None:
        return None
    names, batches = found
    pixels = np.concatenate([pixels for pixels, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Dataset(
        name=query.spec.name,
        split=query.split,
        class_names=tuple(names),
        items=tuple(
            Item(f"{query.split}/{i}", int(label), partial(load_image, image))
            for i, (image, label) in enumerate(zip(images, labels, strict=True))
        ),
        revision=content_hash(pixels.tobytes(), labels.astype("<i8").tobytes()),
    )


def _read(query: Query) -> tuple[list[str], list[Batch]] | None:
    """Class names and the batches of the split, from the first format that is there."""
    formats: tuple[tuple[str, str, str, _NamesOf, _BatchOf], ...] = (
        ("cifar-10-batches-py", "batches.meta", "", _names, _pickled),
        ("cifar-10-batches-bin", "batches.meta.txt", ".bin", lines, _binary),
    )
    for maker, meta, suffix, names_of, batch_of in formats:
        files = [f"{name}{suffix}" for batches in BATCHES.values() for name in batches]
        folder = place(query, (maker,), (meta, *files))
        if folder is not None:
            batches = [batch_of(folder / f"{name}{suffix}") for name in BATCHES[query.split]]
            return names_of(folder / meta), batches
    return None


def _binary(path: Path) -> Batch:
    """Records of one byte for the label and 3,072 for the pixels."""
    data = content(path)
    if not data or len(data) % (1 + PIXELS):
        raise DataError(
            "not a whole number of images in this file",
            given=f"{path}, {len(data)} bytes",
            allowed=f"a multiple of {1 + PIXELS} bytes",
            todo="unpack the archive again",
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _pickled(path: Path) -> Batch:
    """``data`` (N, 3072) uint8 and ``labels``, a list of N, of a dictionary."""
    found = _unpickle(path)
    pixels, labels = found.get("data"), found.get("labels")
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or not isinstance(labels, list)
        or pixels.shape != (len(labels), PIXELS)
        or not all(type(label) is int and 0 <= label < 10 for label in labels)
    ):
        raise DataError(
            "not a batch of CIFAR-10",
            given=str(path),
            allowed=f"data (N, {PIXELS}) of uint8, and labels, a list of N numbers from 0 to 9",
        )
    return pixels, np.array(labels, np.int64)


def _names(path: Path) -> list[str]:
    names = _unpickle(path).get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError("no label_names in this file", given=str(path), allowed="a list of names")
    return names


def _unpickle(path: Path) -> dict[Any, Any]:
    try:
        with open(path, "rb") as file:
            # written by Python 2, whose texts are bytes
            found = _Unpickler(file, encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{error}; in {path}") from error
    except Exception as error:  # a broken pickle fails in whatever it calls
        raise unreadable(path, error) from error
    if not isinstance(found, dict):
        raise DataError("not a file of CIFAR-10", given=str(path), allowed="a dictionary")
    return found


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes for Python 2; only this codec is meant."""
    return text.encode("latin1")


_reconstruct: Any = np.empty(0).__reduce__()[0]

# what a pickled array calls, by the names that old and new numpy give it
ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Reads arrays, texts, numbers, lists and dictionaries, and calls nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in ALLOWED:
            raise DataError(
                "a pickle that would run something else than CIFAR-10's; it was not run",
                given=f"{module_name}.{global_name}",
                todo="get the archive from its makers",
            )
        return ALLOWED[module_name, global_name]
