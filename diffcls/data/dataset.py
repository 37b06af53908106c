"""What every source of images returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diffcls.support.errors import DataError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Item:
    """One image with its label; the image is read when `open` is called, not before.

    Args:
        image_id: path within the set where it has one, else ``split/index``; unique.
        label: class index in [0, K), or index among its own candidates where it has such.
        open: reads the image; raises DataError where it cannot be read.
        candidates: class indices of what this image alone is asked about; empty: all classes.
    """

    image_id: str
    label: int
    open: Callable[[], Image.Image]
    candidates: tuple[int, ...] = ()

    @property
    def class_index(self) -> int:
        """Index of the right class among all classes of the data set."""
        return self.candidates[self.label] if self.candidates else self.label


@dataclass(frozen=True)
class Dataset:
    """A split of a data set: labelled images in a fixed order.

    Args:
        name: full name, as in the leaderboard.
        split: name of the split.
        class_names: (K,) names by class index, from the data's own metadata.
        items: the images.
        revision: says which version of the data this is: a commit, or a hash of the content.
        prompt_names: (K,) what fills a template, where that is not the class name itself.
        sentences: whether the names are whole sentences, which no template frames.

    Raises:
        DataError: without images, with fewer than two classes, with a label outside [0, K), with
            candidates that are no classes or not as many for each image, or with names for prompts
            that are not one a class.
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    items: tuple[Item, ...]
    revision: str
    prompt_names: tuple[str, ...] = ()
    sentences: bool = False

    def __post_init__(self) -> None:
        if not self.items:
            raise DataError(f"no image in {self.name}, split {self.split}")
        if len(self.class_names) < 2:
            raise DataError(
                "a classifier needs two classes or more",
                given=list(self.class_names),
                todo=f"check the classes of {self.name}",
            )
        if self.prompt_names and len(self.prompt_names) != len(self.class_names):
            raise DataError(
                "names for prompts and classes differ in number",
                given=(len(self.prompt_names), len(self.class_names)),
            )
        count = self.n_candidates
        for item in self.items:
            if not 0 <= item.label < count:
                raise DataError(
                    f"label of {item.image_id} out of range",
                    given=item.label,
                    allowed=f"0 to {count - 1}",
                )
            known = all(0 <= k < len(self.class_names) for k in item.candidates)
            if len(item.candidates) != len(self.items[0].candidates) or not known:
                raise DataError(
                    f"candidates of {item.image_id} do not fit",
                    given=item.candidates,
                    allowed="class indices, as many as of every image, or none",
                )

    @property
    def n_candidates(self) -> int:
        """Number of classes that an image is asked about."""
        return len(self.items[0].candidates) or len(self.class_names)

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: Sequence[int]) -> Dataset:
        """The same split, cut down to the items at `indices`, in that order."""
        return replace(self, items=tuple(self.items[i] for i in indices))


def content_hash(*parts: bytes | str) -> str:
    """First 16 hexadecimal digits of the SHA-256 over all parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]
