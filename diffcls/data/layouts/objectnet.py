"""ObjectNet as its makers pack it: the 113 classes that it shares with ImageNet.

Barbu et al. 2019, "ObjectNet: A large-scale bias-controlled dataset for pushing the limits of
object recognition models". Its terms forbid training on it: so it has a test split only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.layouts.files import place, table
from diffcls.data.sources.folder import of_files
from diffcls.support.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FOLDER = "objectnet-1.0"
LABELS, OVERLAP = "folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json"
BORDER = 2  # pixels of red around each image, against training on it unawares


def load(query: Query) -> Dataset | None:
    """All images of the shared classes, in ``objectnet-1.0/images/FOLDER/*.png``.

    Classes are named after their folders and stand in the order of those, as in the prompts
    published with Li et al. 2023. A prompt says the makers' own label instead, in lower case: of
    the folder ``drying_rack_for_dishes``, "drying rack for plates".

    Raises:
        DataError: when a file of ``mappings`` or the folder of a class is missing or broken.
    """
    root = place(query, (FOLDER,), (f"mappings/{LABELS}", f"mappings/{OVERLAP}"))
    if root is None:
        above = place(query, (), (f"{FOLDER}/images",))
        if above is None:
            return None
        root = above / FOLDER
    label_of = _classes(root / "mappings")
    images = root / "images"
    files = []
    for index, folder in enumerate(label_of):
        found = sorted((images / folder).glob("*.png"))
        if not found:
            raise DataError(
                "no image of a class",
                given=str(images / folder),
                allowed="FOLDER/*.png",
                todo="unpack all parts of the archive",
            )
        files += [(path, index) for path in found]
    prompt_names = [label.lower() for label in label_of.values()]
    dataset = of_files(files, images, query.spec.name, query.split, list(label_of), prompt_names)
    return replace(dataset, items=tuple(_cropped(item) for item in dataset.items))


def _classes(mappings: Path) -> dict[str, str]:
    """Folder -> label of the classes that are ImageNet's too, in the order of the folders."""
    shared = table(mappings / OVERLAP)
    found = {
        folder: label
        for folder, label in sorted(table(mappings / LABELS).items())
        if isinstance(label, str) and label in shared
    }
    missing = sorted(shared.keys() - set(found.values()))
    if missing or len(found) != len(shared):
        raise DataError(
            f"{LABELS} and {OVERLAP} do not fit together",
            given=missing or list(found),
            allowed="one folder for each class that ImageNet has too",
        )
    return found


def _cropped(item: Item) -> Item:
    return replace(item, open=partial(_crop, item.open))


def _crop(open_image: Callable[[], Image.Image]) -> Image.Image:
    image = open_image()
    width, height = image.size
    if min(width, height) <= 2 * BORDER:
        raise DataError(
            "image smaller than its border", given=image.size, allowed=f"over {2 * BORDER} pixels"
        )
    return image.crop((BORDER, BORDER, width - BORDER, height - BORDER))
