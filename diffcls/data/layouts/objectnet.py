"""ObjectNet in its original layout, reduced to the 113 classes that it shares with ImageNet.

Barbu et al. 2019, "ObjectNet: A large-scale bias-controlled dataset for pushing the limits of
object recognition models". Its terms forbid training on it, so there is only a test split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.layouts.files import find_folder, read_json_object
from diffcls.data.sources.folder import dataset_of_files
from diffcls.support.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FOLDER = "objectnet-1.0"
LABELS_FILE, OVERLAP_FILE = "folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json"
BORDER_PIXELS = 2  # red border of each image, a mark against accidental training on it


def load(query: Query) -> Dataset | None:
    """All images of the shared classes, in ``objectnet-1.0/images/FOLDER/*.png``.

    Classes are named after their folders, in alphabetical order of the folders, as in the prompts
    published with Li et al. 2023. Prompts contain the data set's own labels in lower case instead,
    such as "drying rack for plates" for the folder ``drying_rack_for_dishes``.

    Raises:
        DataError: if a file of ``mappings`` or the images of a class are missing or malformed.
    """
    root = find_folder(query, (FOLDER,), (f"mappings/{LABELS_FILE}", f"mappings/{OVERLAP_FILE}"))
    if root is None:
        parent = find_folder(query, (), (f"{FOLDER}/images",))
        if parent is None:
            return None
        root = parent / FOLDER
    label_of = _classes(root / "mappings")
    images = root / "images"
    files = []
    for index, folder in enumerate(label_of):
        paths = sorted((images / folder).glob("*.png"))
        if not paths:
            raise DataError(
                "class without images",
                given=str(images / folder),
                allowed="FOLDER/*.png",
                todo="unpack all parts of the archive",
            )
        files += [(path, index) for path in paths]
    prompt_names = [label.lower() for label in label_of.values()]
    dataset = dataset_of_files(
        files, images, query.spec.name, query.split, list(label_of), prompt_names
    )
    return replace(dataset, items=tuple(_cropped(item) for item in dataset.items))


def _classes(mappings: Path) -> dict[str, str]:
    """Folder -> label of the classes shared with ImageNet, in the order of the folders."""
    shared = read_json_object(mappings / OVERLAP_FILE)
    label_of = {
        folder: label
        for folder, label in sorted(read_json_object(mappings / LABELS_FILE).items())
        if isinstance(label, str) and label in shared
    }
    missing = sorted(shared.keys() - set(label_of.values()))
    if missing or len(label_of) != len(shared):
        raise DataError(
            f"{LABELS_FILE} and {OVERLAP_FILE} are inconsistent",
            given=missing or list(label_of),
            allowed="one folder for each class shared with ImageNet",
            todo="unpack the archive again",
        )
    return label_of


def _cropped(item: Item) -> Item:
    return replace(item, open=partial(_crop, item.open))


def _crop(open_image: Callable[[], Image.Image]) -> Image.Image:
    image = open_image()
    width, height = image.size
    if min(width, height) <= 2 * BORDER_PIXELS:
        raise DataError(
            "image is not larger than its border",
            given=image.size,
            allowed=f"more than {2 * BORDER_PIXELS} pixels per side",
        )
    return image.crop((BORDER_PIXELS, BORDER_PIXELS, width - BORDER_PIXELS, height - BORDER_PIXELS))
