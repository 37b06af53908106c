"""Unlabelled images for fits that read no label: of a folder, or of the training split."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.classifiers.fit_images import load_for_fit
from diffcls.classifiers.options import ClassifierOptions
from diffcls.data.dataset import Item
from diffcls.data.image_formats import suffixes
from diffcls.data.image_tree import images_below
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError, UsageError
from diffcls.support.hashing import content_hash, hash_file
from diffcls.support.seeding import key

if TYPE_CHECKING:
    from PIL import Image

SPLIT = "train"


@dataclass(frozen=True)
class UnlabelledImages:
    """Images in random order; their labels are not read.

    Args:
        items: the images.
        name: data set and split, or the folder's name.
        content: hash of what they are.
    """

    items: tuple[Item, ...]
    name: str
    content: str

    @property
    def source(self) -> str:
        """What identifies them, in a fit and in a fingerprint."""
        return f"{self.name} {len(self.items)}:{self.content}"


def unlabelled_images(options: ClassifierOptions, count: int) -> UnlabelledImages:
    """At most `count` images of ``fit_folder``, else of the training split, in random order.

    Raises:
        UsageError: for a data set without a training split that can be read.
        DataError: for a folder without images.
    """
    if options.fit_folder is not None:
        return _of_folder(Path(options.fit_folder), count)
    try:
        whole = load_for_fit(options, SPLIT, "--search learned")
    except (DataError, UsageError) as error:
        raise UsageError(
            "--search learned is fitted on unlabelled images of the training split",
            given=f"{error}",
            todo="name a folder of images with --fit-folder, or choose --search gradient",
        ) from error
    chosen = tuple(whole.items[i] for i in _sample(len(whole), count, whole.name))
    content = content_hash(whole.revision, *(item.image_id for item in chosen))
    return UnlabelledImages(chosen, f"{whole.name}/{SPLIT}", content)


def _of_folder(folder: Path, count: int) -> UnlabelledImages:
    if not folder.is_dir():
        raise DataError("--fit-folder is not a folder", str(folder), "a folder of images")
    paths = images_below(folder, Counter())
    if not paths:
        raise DataError(
            "--fit-folder contains no image",
            given=str(folder),
            allowed=f"files ending in {' '.join(suffixes())}, also in subfolders",
        )
    chosen = [paths[i] for i in _sample(len(paths), count, "folder")]
    items = tuple(Item(str(path.relative_to(folder)), 0, _opener(path)) for path in chosen)
    content = content_hash(*(hash_file(path) for path in chosen))
    return UnlabelledImages(items, folder.resolve().name, content)


def _opener(path: Path) -> Callable[[], Image.Image]:
    return lambda: load_image(path)


def _sample(total: int, count: int, name: str) -> list[int]:
    """A keyed random sample of `count` of `total` positions, in random order."""
    generator = random.Random(key("unlabelled", name))
    return generator.sample(range(total), min(count, total))
