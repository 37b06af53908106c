"""Data sets as every source returns them: `Dataset`, a split of labelled `Item` objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from diffcls.support.errors import DataError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Item:
    """One labelled image, read lazily by `open`.

    Args:
        image_id: path within the set, or ``split/index`` for images without a file; unique.
        label: class index in [0, K), or index among `candidates` if there are any.
        open: function that reads the image; raises DataError if it cannot be read.
        candidates: class indices this image is classified among; empty for all classes.
    """

    image_id: str
    label: int
    open: Callable[[], Image.Image]
    candidates: tuple[int, ...] = ()

    @property
    def class_index(self) -> int:
        """Index of the true class among all classes of the data set."""
        return self.candidates[self.label] if self.candidates else self.label


@dataclass(frozen=True)
class Dataset:
    """A split of a data set: labelled images in a fixed order.

    Args:
        name: full name, as in the leaderboard.
        split: name of the split.
        class_names: (K,) names by class index, from the data's own metadata.
        items: the images.
        revision: version of the data: a commit, or a hash of the content.
        prompt_names: (K,) names for prompt templates, if they differ from the class names.
        sentences: whether the class names are whole sentences, used as prompts without a template.
        templates: default prompt templates that come with the data, each with one ``{}``.
        passed_over: kind -> count of files and folders beside the images that were not read.
        undivided: whether the split was cut from images that are all of them the test split, too.

    Raises:
        DataError: for no images, fewer than two classes, a label outside [0, K), candidates that
            are no classes or differ in number between images, or a number of prompt names other
            than K.
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    items: tuple[Item, ...]
    revision: str
    prompt_names: tuple[str, ...] = ()
    sentences: bool = False
    templates: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict, compare=False)
    undivided: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not self.items:
            raise DataError(f"no images in {self.name}, split {self.split}")
        if len(self.class_names) < 2:
            raise DataError(
                f"too few classes in {self.name}",
                given=list(self.class_names),
                allowed="two classes or more",
            )
        if self.prompt_names and len(self.prompt_names) != len(self.class_names):
            raise DataError(
                "prompt names and class names differ in number",
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
                    f"invalid candidates of {item.image_id}",
                    given=item.candidates,
                    allowed="class indices, the same number for every image, or none",
                )

    @property
    def n_candidates(self) -> int:
        """Number of classes that each image is classified among."""
        return len(self.items[0].candidates) or len(self.class_names)

    def templates_or(self, usual: tuple[str, ...]) -> tuple[str, ...]:
        """The default prompt templates: the usual ones, unless the data have their own.

        Sentences are prompts as they are.
        """
        return ("{}",) if self.sentences else self.templates or usual

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: Sequence[int]) -> Dataset:
        """The same split with only the items at `indices`, in that order."""
        return replace(self, items=tuple(self.items[i] for i in indices))
