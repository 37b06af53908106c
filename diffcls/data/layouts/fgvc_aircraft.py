"""FGVC-Aircraft as its makers pack it: all images in one folder, lists of each split's variants.

Maji et al. 2013 (arXiv:1306.5151).
"""

from __future__ import annotations

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.files import lines, place
from diffcls.data.sources.folder import of_files
from diffcls.support.errors import DataError

FOLDER = "fgvc-aircraft-2013b/data"
LISTS = {"test": "images_variant_test.txt", "train": "images_variant_trainval.txt"}


def load(query: Query) -> Dataset | None:
    """The split ``test`` (3,333 images) or ``train`` (6,667), by variant; names may hold a slash.

    Raises:
        DataError: when a list is missing or names an unknown variant, or no image is there.
    """
    root = place(query, (FOLDER, "data"), ("variants.txt", LISTS["test"]))
    if root is None:
        return None
    names = lines(root / "variants.txt")
    label_of = {name: label for label, name in enumerate(names)}
    images = root / "images"
    files = []
    for line in lines(root / LISTS[query.split]):
        image, _, variant = line.partition(" ")  # 0034309 Boeing 707
        if variant not in label_of:
            raise DataError("an image of an unknown variant is listed", given=line, allowed=names)
        files.append((images / f"{image}.jpg", label_of[variant]))
    if not any(path.is_file() for path, _ in files):
        raise DataError(
            "none of the listed images is there", given=str(images), todo="unpack the archive again"
        )
    return of_files(files, root, query.spec.name, query.split, names)
