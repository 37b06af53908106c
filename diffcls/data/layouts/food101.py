"""Food-101 as its makers pack it: one folder a class, and lists of which image is in which split.

Bossard, Guillaumin and Van Gool 2014, "Food-101: Mining Discriminative Components with Random
Forests".
"""

from __future__ import annotations

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.files import lines, place
from diffcls.data.sources.folder import of_files
from diffcls.support.errors import DataError

FOLDER = "food-101"


def load(query: Query) -> Dataset | None:
    """The split ``test`` (25,250 images) or ``train`` (75,750).

    Classes are called as the folders; in a prompt, underscores become spaces.

    Raises:
        DataError: when a list is missing or names an unknown class, or no image is there.
    """
    root = place(query, (FOLDER,), ("meta/classes.txt", "meta/test.txt"))
    if root is None:
        return None
    names = lines(root / "meta" / "classes.txt")
    label_of = {name: label for label, name in enumerate(names)}
    listed = lines(root / "meta" / f"{query.split}.txt")
    unknown = sorted({line.partition("/")[0] for line in listed} - label_of.keys())
    if unknown:
        raise DataError("images of unknown classes are listed", given=unknown[:8], allowed=names)
    images = root / "images"
    files = [(images / f"{line}.jpg", label_of[line.partition("/")[0]]) for line in listed]
    if not any(path.is_file() for path, _ in files):
        raise DataError(
            "none of the listed images is there", given=str(images), todo="unpack the archive again"
        )
    prompts = [name.replace("_", " ") for name in names]
    return of_files(files, root, query.spec.name, query.split, names, prompts)
