"""Oxford-IIIT Pet as its makers pack it: images, and lists of them with class and species.

Parkhi et al. 2012, "Cats and Dogs".
"""

from __future__ import annotations

from pathlib import Path

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.layouts.files import lines, place
from diffcls.data.sources.folder import of_files
from diffcls.support.errors import DataError

LISTS = {"test": "test.txt", "train": "trainval.txt"}
ALL = "list.txt"
SPECIES = {1: "cat", 2: "dog"}


def load(query: Query) -> Dataset | None:
    """The split ``test`` (3,669 images) or ``train`` (3,680), as the lists name them.

    Classes are those that the lists hold, in the order of their ids: of a partial copy, fewer than
    37. They are called as torchvision calls them; a prompt says the species as well, where the name
    does not end so: "Abyssinian cat", "American Bulldog" (the published prompts).

    Raises:
        DataError: when a list is missing or malformed, or none of its images is there.
    """
    root = place(
        query, ("oxford-iiit-pet",), (f"annotations/{LISTS['test']}", f"annotations/{ALL}")
    )
    if root is None:
        return None
    annotations = root / "annotations"
    entries = _entries(annotations / LISTS[query.split])
    lists = [annotations / name for name in (ALL, *LISTS.values())]
    known = [e for path in lists if path.is_file() for e in _entries(path)] or entries
    classes = {class_id: (name, species) for name, class_id, species in known}
    ids = sorted(classes)
    label_of = {class_id: label for label, class_id in enumerate(ids)}
    images = root / "images"
    files = [(images / f"{name}.jpg", label_of[class_id]) for name, class_id, _ in entries]
    if not any(path.is_file() for path, _ in files):
        raise DataError(
            "none of the listed images is there", given=str(images), todo="unpack images.tar.gz"
        )
    names = [_class_name(classes[class_id][0]) for class_id in ids]
    prompts = [with_species(n, classes[i][1]) for n, i in zip(names, ids, strict=True)]
    return of_files(files, root, query.spec.name, query.split, names, prompts)


def _entries(path: Path) -> list[tuple[str, int, str]]:
    """(file name without suffix, class id, species) of each line of a list.

    A line is ``Abyssinian_100 1 1 1``: name, class id from 1, species, breed id within it.
    """
    entries = []
    for line in lines(path):
        if line.startswith("#"):
            continue
        try:
            name, class_id, species, _ = line.split()
            entries.append((name, int(class_id), SPECIES[int(species)]))
        except (ValueError, KeyError) as error:
            raise DataError(
                "line of a list is not as it should be",
                given=f"{line!r} in {path}",
                allowed="NAME CLASS_ID SPECIES BREED_ID, with 1 for cats and 2 for dogs",
            ) from error
    return entries


def _class_name(file_name: str) -> str:
    """``american_bulldog_100`` -> ``American Bulldog``."""
    return " ".join(part.title() for part in file_name.split("_")[:-1])


def with_species(name: str, species: str) -> str:
    """The class name in a prompt: "Abyssinian" -> "Abyssinian cat", if it lacks the species."""
    return name if name.lower().endswith(species) else f"{name} {species}"
