"""STL-10 as its makers pack it: one file with the pixels of a split, one with its labels.

Coates, Ng and Lee 2011, "An Analysis of Single Layer Networks in Unsupervised Feature Learning".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.layouts.files import content, lines, place, unreadable
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash, file_digest

if TYPE_CHECKING:
    from PIL import Image

SHAPE = (3, 96, 96)  # channel, column, row: the files are MATLAB's
BYTES = 3 * 96 * 96
NAMES = "class_names.txt"


def load(query: Query) -> Dataset | None:
    """The split ``test`` (8,000 images of 96×96) or ``train`` (5,000).

    Found in ``stl10_binary``, in the root or as the root. The pixels stay on the disk: each image
    is read from its place in the file when it is opened.

    Raises:
        DataError: when a file is missing, or labels and images do not fit together.
    """
    files = [f"{split}_{kind}.bin" for split in ("test", "train") for kind in "Xy"]
    folder = place(query, ("stl10_binary",), files)
    if folder is None:
        return None
    labels = np.frombuffer(content(folder / f"{query.split}_y.bin"), np.uint8)
    pixels = folder / f"{query.split}_X.bin"
    try:
        size, digest = pixels.stat().st_size, file_digest(pixels)
    except OSError as error:
        raise unreadable(pixels, error) from error
    if size != BYTES * len(labels):
        raise DataError(
            "images and labels differ in number",
            given=f"{pixels}, {size} bytes, for {len(labels)} labels",
            allowed=f"{BYTES} bytes for each label",
            todo="unpack the archive again",
        )
    return Dataset(
        name=query.spec.name,
        split=query.split,
        class_names=tuple(lines(folder / NAMES)),
        items=tuple(
            # their classes count from 1
            Item(f"{query.split}/{i}", int(label) - 1, partial(_open, pixels, i))
            for i, label in enumerate(labels)
        ),
        revision=content_hash(labels.tobytes(), digest),
    )


def _open(path: Path, index: int) -> Image.Image:
    try:
        flat = np.fromfile(path, np.uint8, count=BYTES, offset=BYTES * index)
        return load_image(flat.reshape(SHAPE).transpose(2, 1, 0))
    except (OSError, ValueError) as error:  # the file is gone, or was cut short since
        raise unreadable(path, error) from error
