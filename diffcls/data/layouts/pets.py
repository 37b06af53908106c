"""Oxford-IIIT Pet in its original layout: images, and lists with the class and species of each.

Parkhi et al. 2012, "Cats and Dogs".
"""

from __future__ import annotations

from pathlib import Path

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.files import dataset_of_list, find_folder, read_lines
from diffcls.support.errors import DataError

SPLIT_LISTS = {"test": "test.txt", "train": "trainval.txt"}
FULL_LIST = "list.txt"
SPECIES = {1: "cat", 2: "dog"}


def load(query: Query) -> Dataset | None:
    """The split ``test`` (3,669 images) or ``train`` (3,680).

    Classes are those of the lists in the order of their ids, fewer than 37 in a partial copy. Class
    names are those of torchvision; prompts contain the species as well unless the name ends with
    it, as in the published prompts: "Abyssinian cat", "American Bulldog".

    Raises:
        DataError: if a list is missing or malformed, or no listed image exists.
    """
    names = (f"annotations/{SPLIT_LISTS['test']}", f"annotations/{FULL_LIST}")
    root = find_folder(query, ("oxford-iiit-pet",), names)
    if root is None:
        return None
    annotations = root / "annotations"
    entries = _entries(annotations / SPLIT_LISTS[query.split])
    lists = [annotations / name for name in (FULL_LIST, *SPLIT_LISTS.values())]
    known = [e for path in lists if path.is_file() for e in _entries(path)] or entries
    classes = {class_id: (name, species) for name, class_id, species in known}
    ids = sorted(classes)
    label_of = {class_id: label for label, class_id in enumerate(ids)}
    images = root / "images"
    files = [(images / f"{name}.jpg", label_of[class_id]) for name, class_id, _ in entries]
    class_names = [_class_name(classes[class_id][0]) for class_id in ids]
    prompts = [with_species(n, classes[i][1]) for n, i in zip(class_names, ids, strict=True)]
    return dataset_of_list(query, files, root, class_names, prompts, archive="images.tar.gz")


def _entries(path: Path) -> list[tuple[str, int, str]]:
    """(file name without suffix, class id, species) of each line of a list.

    Example of a line: ``Abyssinian_100 1 1 1``, with the name, the class id counted from 1, the
    species, and the breed id within the species.
    """
    entries = []
    for line in read_lines(path):
        if line.startswith("#"):
            continue
        try:
            name, class_id, species, _ = line.split()
            entries.append((name, int(class_id), SPECIES[int(species)]))
        except (ValueError, KeyError) as error:
            raise DataError(
                "malformed line of a list",
                given=f"{line!r} in {path}",
                allowed="NAME CLASS_ID SPECIES BREED_ID, with 1 for cats and 2 for dogs",
            ) from error
    return entries


def _class_name(file_name: str) -> str:
    """Class name of a file: ``american_bulldog_100`` -> ``American Bulldog``."""
    return " ".join(part.title() for part in file_name.split("_")[:-1])


def with_species(name: str, species: str) -> str:
    """The class name followed by its species, unless it ends with it: "Abyssinian cat"."""
    return name if name.lower().endswith(species) else f"{name} {species}"
