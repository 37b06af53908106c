"""Objects of scenes: the labels of an image that shows several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffcls.data.dataset import Dataset
from diffcls.data.scenes.grammar import Group, parse
from diffcls.support.errors import UsageError


def object_labels(dataset: Dataset) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """The kinds of objects in a data set of scenes, and which of them each image shows.

    Args:
        dataset: a data set whose class names are sentences of `diffcls.data.scenes.grammar`.

    Returns:
        (L,) labels such as ``a small red circle``, those of all class names, in alphabetical
        order; and (n, L) whether image i shows object l, once or more.

    Raises:
        UsageError: for another data set.
    """
    if not dataset.name.startswith("scenes/"):
        raise UsageError(
            "--multi-label needs a data set with several labels per image",
            given=dataset.name,
            allowed="scenes/relations, scenes/pairs, scenes/counting, scenes/attributes",
            todo="score images of your own with clf(images, labels, multi_label=True)",
        )
    shown = [
        frozenset(str(Group(group.kind)) for group in parse(name).groups)
        for name in dataset.class_names
    ]
    labels = tuple(sorted(frozenset[str]().union(*shown)))
    present = [[label in shown[item.class_index] for label in labels] for item in dataset.items]
    return labels, np.array(present, dtype=bool)
