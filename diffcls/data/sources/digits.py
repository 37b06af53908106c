"""scikit-learn's handwritten digits: 1,797 gray images of 8×8 pixels, included in scikit-learn.

Alpaydin and Kaynak 1998 (UCI, "Optical Recognition of Handwritten Digits", the test set).
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash

if TYPE_CHECKING:
    from PIL import Image

SPLITS = Path(__file__).parents[2] / "assets" / "splits" / "digits.json"
"""Rows of scikit-learn's table per split, in order."""
TABLE = ("datasets", "data", "digits.csv.gz")
"""Path of the table below scikit-learn's folder: 64 gray levels and the label per line."""
SIDE_PIXELS = 8


def load(query: Query) -> Dataset:
    """The split ``test`` (500 images), ``validation`` (200) or ``train`` (the other 1,097).

    The splits are fixed and stratified: 500 test images sampled by scikit-learn's
    ``train_test_split`` with ``random_state=0``, then 200 validation images of the rest. Their rows
    are stored with the package, so that they depend on no version of scikit-learn.

    Raises:
        DataError: where scikit-learn's table is missing or unreadable.
    """
    levels, labels = _table()
    rows: list[int] = json.loads(SPLITS.read_text(encoding="utf-8"))[query.split]
    # 17 gray levels, 0–16 -> 0–255
    gray = np.rint(levels * (255.0 / 16.0)).astype(np.uint8)
    return Dataset(
        name="digits",
        split=query.split,
        class_names=tuple(map(str, range(10))),
        items=tuple(
            Item(f"{query.split}/{i}", int(labels[row]), _opener(gray[row]))
            for i, row in enumerate(rows)
        ),
        revision=content_hash(gray.tobytes(), labels.tobytes()),
    )


def _table() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gray levels (1797, 8, 8), 0 to 16, and labels (1797,).

    The file is read without importing scikit-learn, which takes seconds.
    """
    package = importlib.util.find_spec("sklearn")
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0] if folders else "sklearn", *TABLE)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.int64)
        return table[:, :-1].reshape(-1, SIDE_PIXELS, SIDE_PIXELS), table[:, -1].copy()
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"cannot read scikit-learn's table of digits ({error})",
            given=str(path),
            todo="reinstall scikit-learn",
        ) from error


def _opener(pixels: NDArray[np.uint8]) -> Callable[[], Image.Image]:
    def open_image() -> Image.Image:
        from PIL import Image

        return Image.fromarray(pixels)

    return open_image
