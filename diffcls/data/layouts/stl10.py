"""STL-10 in its original layout: one file of pixels and one of labels per split.

Coates, Ng and Lee 2011, "An Analysis of Single Layer Networks in Unsupervised Feature Learning".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.layouts.files import find_folder, read_bytes, read_lines, unreadable_file
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash, file_digest

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SHAPE = (3, 96, 96)  # channel, column, row: the order of MATLAB
IMAGE_BYTES = 3 * 96 * 96
NAMES_FILE = "class_names.txt"


def load(query: Query) -> Dataset | None:
    """The split ``test`` (8,000 images of 96×96) or ``train`` (5,000).

    The folder is ``stl10_binary`` below the root, or the root itself. Each image is read from its
    offset in the file when it is opened.

    Raises:
        DataError: if a file is missing, or images and labels differ in number.
    """
    files = [f"{split}_{kind}.bin" for split in ("test", "train") for kind in "Xy"]
    folder = find_folder(query, ("stl10_binary",), files)
    if folder is None:
        return None
    labels = np.frombuffer(read_bytes(folder / f"{query.split}_y.bin"), np.uint8)
    pixels = folder / f"{query.split}_X.bin"
    try:
        size, digest = pixels.stat().st_size, file_digest(pixels)
    except OSError as error:
        raise unreadable_file(pixels, error) from error
    if size != IMAGE_BYTES * len(labels):
        raise DataError(
            "images and labels differ in number",
            given=f"{pixels}, {size} bytes, for {len(labels)} labels",
            allowed=f"{IMAGE_BYTES} bytes for each label",
            todo="unpack the archive again",
        )
    return Dataset(
        name=query.spec.name,
        split=query.split,
        class_names=tuple(read_lines(folder / NAMES_FILE)),
        items=tuple(
            # labels are counted from 1
            Item(f"{query.split}/{i}", int(label) - 1, partial(_open, pixels, i))
            for i, label in enumerate(labels)
        ),
        revision=content_hash(labels.tobytes(), digest),
    )


def _open(path: Path, index: int) -> Image.Image:
    try:
        flat = np.fromfile(path, np.uint8, count=IMAGE_BYTES, offset=IMAGE_BYTES * index)
        return load_image(flat.reshape(IMAGE_SHAPE).transpose(2, 1, 0))
    except (OSError, ValueError) as error:  # the file was removed or truncated meanwhile
        raise unreadable_file(path, error) from error
