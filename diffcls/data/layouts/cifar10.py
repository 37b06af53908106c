"""CIFAR-10 in its original layout: batches in the Python or the binary version.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images". The Python version
consists of pickles, which can execute code when they are loaded. A restricted unpickler therefore
allows only the globals that these files need.
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
from diffcls.data.layouts.files import find_folder, read_bytes, read_lines, unreadable_file
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash

BATCH_FILES = {"test": ("test_batch",), "train": tuple(f"data_batch_{i}" for i in range(1, 6))}
IMAGE_BYTES = 3 * 32 * 32  # red, green and blue planes, row by row

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]
_NamesOf = Callable[[Path], list[str]]
_BatchOf = Callable[[Path], Batch]


def load(query: Query) -> Dataset | None:
    """The split ``test`` (10,000 images) or ``train`` (50,000), in the order of the batches.

    The batches are in ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, which is a folder of the
    data root or the data root itself.

    Raises:
        DataError: if a file is missing, truncated, or contains anything but images and labels.
    """
    content = _read(query)
    if content is None:
        return None
    names, batches = content
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
    """Class names and the batches of the split, from the first version found."""
    versions: tuple[tuple[str, str, str, _NamesOf, _BatchOf], ...] = (
        ("cifar-10-batches-py", "batches.meta", "", _names, _pickled),
        ("cifar-10-batches-bin", "batches.meta.txt", ".bin", read_lines, _binary),
    )
    for name, meta, suffix, names_of, batch_of in versions:
        files = [f"{batch}{suffix}" for batches in BATCH_FILES.values() for batch in batches]
        folder = find_folder(query, (name,), (meta, *files))
        if folder is not None:
            batches = [batch_of(folder / f"{batch}{suffix}") for batch in BATCH_FILES[query.split]]
            return names_of(folder / meta), batches
    return None


def _binary(path: Path) -> Batch:
    """Batch of the binary version: records of one label byte and 3,072 pixel bytes."""
    data = read_bytes(path)
    if not data or len(data) % (1 + IMAGE_BYTES):
        raise DataError(
            "file is not a whole number of images",
            given=f"{path}, {len(data)} bytes",
            allowed=f"a multiple of {1 + IMAGE_BYTES} bytes",
            todo="unpack the archive again",
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + IMAGE_BYTES)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _pickled(path: Path) -> Batch:
    """Batch of the Python version: a dictionary of ``data`` (N, 3072) uint8 and N ``labels``."""
    batch = _unpickle(path)
    pixels, labels = batch.get("data"), batch.get("labels")
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or not isinstance(labels, list)
        or pixels.shape != (len(labels), IMAGE_BYTES)
        or not all(type(label) is int and 0 <= label < 10 for label in labels)
    ):
        raise DataError(
            "file is not a batch of CIFAR-10",
            given=str(path),
            allowed=f"data (N, {IMAGE_BYTES}) of uint8, and labels: N integers from 0 to 9",
        )
    return pixels, np.array(labels, np.int64)


def _names(path: Path) -> list[str]:
    names = _unpickle(path).get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError("file without label_names", given=str(path), allowed="a list of names")
    return names


def _unpickle(path: Path) -> dict[Any, Any]:
    try:
        with open(path, "rb") as file:
            # written by Python 2, whose strings are bytes
            value = _Unpickler(file, encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{error}; in {path}") from error
    except Exception as error:  # a malformed pickle raises exceptions of many types
        raise unreadable_file(path, error) from error
    if not isinstance(value, dict):
        raise DataError(
            "file is not part of CIFAR-10", given=str(path), allowed="a pickled dictionary"
        )
    return value


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Bytes as Python 3 pickles them for Python 2, restricted to this one codec."""
    return text.encode("latin1")


_reconstruct: Any = np.empty(0).__reduce__()[0]

ALLOWED_GLOBALS: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}
"""(module, name) of the globals that a pickled array needs, in old and new versions of NumPy."""


class _Unpickler(pickle.Unpickler):
    """Restricted unpickler: arrays, strings, numbers, lists and dictionaries, no other globals."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in ALLOWED_GLOBALS:
            raise DataError(
                "pickle refers to code that CIFAR-10 does not need; it was not executed",
                given=f"{module_name}.{global_name}",
                todo="download the archive from its official site",
            )
        return ALLOWED_GLOBALS[module_name, global_name]
