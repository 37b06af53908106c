"""scikit-learn's handwritten digits: 1,797 gray images of 8×8 pixels, included in the package.

Alpaydin and Kaynak 1998 (UCI, "Optical Recognition of Handwritten Digits", the test set).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.support.hashing import content_hash

if TYPE_CHECKING:
    from PIL import Image

TEST_IMAGES, VALIDATION_IMAGES = 500, 200


def load(query: Query) -> Dataset:
    """The split ``test`` (500 images), ``validation`` (200) or ``train`` (the other 1,097).

    The splits are fixed and stratified: 500 test images sampled with ``random_state=0``, then 200
    validation images of the rest.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    split, bunch = query.split, load_digits()
    labels = np.asarray(bunch.target)
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_IMAGES, stratify=labels, random_state=0
    )
    train, validation = train_test_split(
        rest, test_size=VALIDATION_IMAGES, stratify=labels[rest], random_state=0
    )
    chosen = {"train": train, "validation": validation, "test": test}[split]
    # 17 gray levels, 0–16 -> 0–255
    gray = np.rint(np.asarray(bunch.images) * (255.0 / 16.0)).astype(np.uint8)
    return Dataset(
        name="digits",
        split=split,
        class_names=tuple(str(name) for name in bunch.target_names),
        items=tuple(
            Item(f"{split}/{i}", int(labels[row]), _opener(gray[row]))
            for i, row in enumerate(chosen)
        ),
        revision=content_hash(gray.tobytes(), labels.astype(np.int64).tobytes()),
    )


def _opener(pixels: NDArray[np.uint8]) -> Callable[[], Image.Image]:
    def open_image() -> Image.Image:
        from PIL import Image

        return Image.fromarray(pixels)

    return open_image
