"""Open-set question: some labels of a data set are withheld from the candidates.

An image of a withheld class has the right answer "none of these". The labels are a keyed random
choice, so validation and test images have the same candidates, and nothing is trained again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diffcls.data.dataset import Dataset
from diffcls.data.prompts import PromptSet
from diffcls.support.errors import DataError, UsageError
from diffcls.support.seeding import keyed_generator

NONE_OF_THESE = "none of these"
"""Name of the background class in answers and tables."""
WITHHELD_SHARE = 3
"""One label in this many is withheld."""


@dataclass(frozen=True, kw_only=True)
class OpenSet(Dataset):
    """A split whose candidates are some of its classes, and "none of these", which comes last.

    Args:
        kept: indices of the candidates among the classes of `whole`, ascending.
        whole: the same split with all its classes.
    """

    kept: tuple[int, ...]
    whole: Dataset

    @property
    def withheld(self) -> tuple[str, ...]:
        """Names of the classes that are no candidates."""
        return tuple(n for k, n in enumerate(self.whole.class_names) if k not in self.kept)

    def candidates(self, prompts: PromptSet) -> PromptSet:
        """The prompts of the candidates, from those of all classes."""
        rows = [(text, k) for text, k in zip(prompts.prompts, prompts.class_of, strict=True)]
        of_kept = [(text, self.kept.index(k)) for text, k in rows if k in self.kept]
        texts, class_of = zip(*of_kept, strict=True)
        return replace(
            prompts,
            class_names=tuple(prompts.class_names[k] for k in self.kept),
            prompts=texts,
            class_of=class_of,
        )


def withheld_labels(class_names: Sequence[str], seed: int) -> tuple[int, ...]:
    """Indices of a random third of the labels, at least one, ascending; keyed by the seed.

    Raises:
        UsageError: for fewer than three labels, of which no two would be left.
    """
    if len(class_names) < WITHHELD_SHARE:
        raise UsageError(
            "--reject withholds a third of the labels",
            given=f"{len(class_names)} labels",
            allowed=f"{WITHHELD_SHARE} labels or more",
        )
    order = keyed_generator(seed, "withheld labels").permutation(len(class_names))
    return tuple(sorted(order[: len(class_names) // WITHHELD_SHARE].tolist()))


def open_set(dataset: Dataset, seed: int) -> OpenSet:
    """The data set with a third of its labels withheld, see `withheld_labels`.

    Raises:
        UsageError: for images with candidates of their own, or too few labels.
        DataError: for a class of that name among the candidates.
    """
    if dataset.items[0].candidates:
        raise UsageError(
            "--reject needs classes that all images share",
            given=f"{dataset.name}, whose images have candidates of their own",
            todo="choose another data set",
        )
    names = dataset.class_names
    withheld = withheld_labels(names, seed)
    kept = tuple(k for k in range(len(names)) if k not in withheld)
    if NONE_OF_THESE in names:
        raise DataError("a class has the name of the background class", given=NONE_OF_THESE)
    new_label = {k: place for place, k in enumerate(kept)}
    items = tuple(
        replace(item, label=new_label.get(item.label, len(kept))) for item in dataset.items
    )
    return OpenSet(
        name=dataset.name,
        split=dataset.split,
        class_names=(*(names[k] for k in kept), NONE_OF_THESE),
        items=items,
        revision=dataset.revision,
        sentences=dataset.sentences,
        templates=dataset.templates,
        passed_over=dataset.passed_over,
        kept=kept,
        whole=dataset,
    )
