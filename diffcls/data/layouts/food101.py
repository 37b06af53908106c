"""Food-101 in its original layout: one folder per class, and lists of the images of each split.

Bossard, Guillaumin and Van Gool 2014, "Food-101: Mining Discriminative Components with Random
Forests".
"""

from __future__ import annotations

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.files import dataset_of_list, find_folder, read_lines
from diffcls.support.errors import DataError

FOLDER = "food-101"


def load(query: Query) -> Dataset | None:
    """The split ``test`` (25,250 images) or ``train`` (75,750).

    Class names are those of the folders; in prompts, underscores become spaces.

    Raises:
        DataError: if a list is missing or names an unknown class, or no listed image exists.
    """
    root = find_folder(query, (FOLDER,), ("meta/classes.txt", "meta/test.txt"))
    if root is None:
        return None
    names = read_lines(root / "meta" / "classes.txt")
    label_of = {name: label for label, name in enumerate(names)}
    listed = read_lines(root / "meta" / f"{query.split}.txt")
    unknown = sorted({line.partition("/")[0] for line in listed} - label_of.keys())
    if unknown:
        raise DataError("list names unknown classes", given=unknown[:8], allowed=names)
    images = root / "images"
    files = [(images / f"{line}.jpg", label_of[line.partition("/")[0]]) for line in listed]
    prompts = [name.replace("_", " ") for name in names]
    return dataset_of_list(query, files, root, names, prompts)
