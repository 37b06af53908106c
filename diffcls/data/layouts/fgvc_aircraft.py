"""FGVC-Aircraft in its original layout: one folder of images, and lists of each split's variants.

Maji et al. 2013 (arXiv:1306.5151).
"""

from __future__ import annotations

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.files import dataset_of_list, find_folder, read_lines
from diffcls.support.errors import DataError

FOLDER = "fgvc-aircraft-2013b/data"
SPLIT_LISTS = {"test": "images_variant_test.txt", "train": "images_variant_trainval.txt"}


def load(query: Query) -> Dataset | None:
    """The split ``test`` (3,333 images) or ``train`` (6,667); classes are the variants.

    Class names may contain a slash.

    Raises:
        DataError: if a list is missing or names an unknown variant, or no listed image exists.
    """
    root = find_folder(query, (FOLDER, "data"), ("variants.txt", SPLIT_LISTS["test"]))
    if root is None:
        return None
    names = read_lines(root / "variants.txt")
    label_of = {name: label for label, name in enumerate(names)}
    images = root / "images"
    files = []
    for line in read_lines(root / SPLIT_LISTS[query.split]):
        image, _, variant = line.partition(" ")  # 0034309 Boeing 707
        if variant not in label_of:
            raise DataError("list names an unknown variant", given=line, allowed=names)
        files.append((images / f"{image}.jpg", label_of[variant]))
    return dataset_of_list(query, files, root, names)
