"""Classes left out of a data set: for models that have never seen them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diffcls.data.dataset import Dataset
from diffcls.support.errors import UsageError, unknown_name


def labels_of(dataset: Dataset, names: Sequence[str]) -> frozenset[int]:
    """Indices of classes by their names, in any case of letters.

    Raises:
        UsageError: for an unknown name, a name that several classes have, or a data set whose
            images have candidates of their own.
    """
    if any(item.candidates for item in dataset.items):
        raise UsageError(
            "classes are left out of data sets whose images share all classes",
            given=dataset.name,
            allowed="a data set without candidates of each image",
        )
    folded = [name.casefold() for name in dataset.class_names]
    for name in names:
        if name.casefold() not in folded:
            raise unknown_name(f"class of {dataset.name}", name, dataset.class_names)
        if folded.count(name.casefold()) > 1:
            raise UsageError(
                f"several classes of {dataset.name} have this name",
                given=name,
                todo="rename one of them",
            )
    return frozenset(folded.index(name.casefold()) for name in names)


def images_without(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The images of all other classes; class names and labels stay.

    Args:
        dataset: the data set.
        names: names of the classes that are left out.

    Raises:
        UsageError: see `labels_of`; and if fewer than two classes would be left.
    """
    if not names:
        return dataset
    left_out = labels_of(dataset, names)
    if len(dataset.class_names) - len(left_out) < 2:
        raise UsageError(
            "too few classes are left",
            given=f"{len(left_out)} of {len(dataset.class_names)} left out",
            allowed="two classes or more",
        )
    kept = [i for i, item in enumerate(dataset.items) if item.label not in left_out]
    return dataset.take(kept)


def classes_without(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The data set of the other classes, numbered from 0.

    Args:
        dataset: the data set.
        names: names of the classes that are left out.

    Raises:
        UsageError: see `images_without`.
    """
    if not names:
        return dataset
    kept, left_out = images_without(dataset, names), labels_of(dataset, names)
    old = [k for k in range(len(dataset.class_names)) if k not in left_out]
    new = {k: i for i, k in enumerate(old)}
    return replace(
        kept,
        class_names=tuple(dataset.class_names[k] for k in old),
        prompt_names=tuple(dataset.prompt_names[k] for k in old) if dataset.prompt_names else (),
        items=tuple(replace(item, label=new[item.label]) for item in kept.items),
    )
