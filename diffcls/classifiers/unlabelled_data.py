"""Unlabelled images for fits that read no label: of a folder, or of the training split."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
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
        keys: what identifies each of them: its data set and id, or the hash of its file.
        name: data set and split, or the folder's name.
        content: hash of what they are.
    """

    items: tuple[Item, ...]
    keys: tuple[str, ...]
    name: str
    content: str

    @property
    def source(self) -> str:
        """What identifies them, in a fit and in a fingerprint."""
        return f"{self.name} {len(self.items)}:{self.content}"


def unlabelled_images(
    options: ClassifierOptions, count: int, without: frozenset[str] = frozenset()
) -> UnlabelledImages:
    """At most `count` images of ``fit_folder``, else of the training split, in random order.

    Args:
        options: options of the evaluation.
        count: number of images.
        without: keys of images that are left out.

    Raises:
        UsageError: for a data set without a training split that can be read.
        DataError: for a folder without images.
    """
    if options.fit_folder is not None:
        return _of_folder(Path(options.fit_folder), count, without)
    try:
        whole = load_for_fit(options, SPLIT, "--search learned")
    except (DataError, UsageError) as error:
        raise UsageError(
            "--search learned is fitted on unlabelled images of the training split",
            given=f"{error}",
            todo="name a folder of images with --fit-folder, or choose --search gradient",
        ) from error
    source = f"{whole.name}/{SPLIT}"

    def key_of(i: int) -> str:
        return f"{source} {whole.revision} {whole.items[i].image_id}"

    chosen = _sample(len(whole), count, whole.name, key_of, without)
    items = tuple(whole.items[i] for i in chosen)
    content = content_hash(whole.revision, *(item.image_id for item in items))
    return UnlabelledImages(items, tuple(map(key_of, chosen)), source, content)


def _of_folder(folder: Path, count: int, without: frozenset[str]) -> UnlabelledImages:
    if not folder.is_dir():
        raise DataError("--fit-folder is not a folder", str(folder), "a folder of images")
    paths = images_below(folder, Counter())
    if not paths:
        raise DataError(
            "--fit-folder contains no image",
            given=str(folder),
            allowed=f"files ending in {' '.join(suffixes())}, also in subfolders",
        )
    key_of = cache(lambda i: hash_file(paths[i]))
    chosen = _sample(len(paths), count, "folder", key_of, without)
    items = tuple(Item(str(paths[i].relative_to(folder)), 0, _opener(paths[i])) for i in chosen)
    keys = tuple(map(key_of, chosen))
    return UnlabelledImages(items, keys, folder.resolve().name, content_hash(*keys))


def _opener(path: Path) -> Callable[[], Image.Image]:
    return lambda: load_image(path)


def _sample(
    total: int, count: int, name: str, key_of: Callable[[int], str], without: frozenset[str]
) -> list[int]:
    """A keyed random sample of `count` of `total` positions, in random order.

    Args:
        total, count: numbers of positions.
        name: part of the sample's key.
        key_of: position -> key of its image.
        without: keys of images that are left out.
    """
    generator = random.Random(key("unlabelled", name))
    # as many more as may be left out
    chosen = generator.sample(range(total), min(count + len(without), total))
    if without:
        chosen = [i for i in chosen if key_of(i) not in without]
    return chosen[:count]
