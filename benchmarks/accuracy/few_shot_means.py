"""Nearest class mean (Mensink et al. 2013): the few-shot baseline, on frozen features.

    k* = argmax_k ⟨u(f(x) − b), m_k⟩,   m_k = u(mean over images of class k of u(f − b))

with unit vectors u(·) and the mean b of the features of the old classes' images. Old classes have
`OLD_IMAGES` images each; the new one has those that the concept is learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import few_shot_features
from benchmarks.accuracy.few_shot_tasks import Learning, NewClass
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from benchmarks.accuracy.few_shot_features import Read
    from diffcls.data.dataset import Item

OLD_IMAGES = 20
VALIDATION_IMAGES = 5
"""Images of each old class that choose the place of the features."""
MODEL, CLIP = "nearest class mean, the model's features", "nearest class mean, CLIP's features"
FEATURES = (MODEL, CLIP)


def class_means(new: NewClass, learning: Learning, features: str) -> dict[str, Any]:
    """Which images are right with the new class's mean among all, and which old ones without it.

    Args:
        new: the class.
        learning: number and choice of its images.
        features: one of `FEATURES`.
    """
    read = reader(new, features)
    place = _best_place(new, features)
    old = {k: read(items)[place] for k, items in _old_images(new, "train", OLD_IMAGES).items()}
    without = ClassMeans(old)
    classes = ClassMeans({**old, new.label: read(new.shown(learning))[place]}, without.centre)
    own, rest = read(new.own)[place], read(new.old)[place]
    labels = np.array([item.class_index for item in new.old])
    return {
        "recalled": (classes(own) == new.label).tolist(),
        "old_right": (classes(rest) == labels).tolist(),
        "old_right_before": (without(rest) == labels).tolist(),
        "place": place,
    }


class ClassMeans:
    """Nearest class mean: (B, D) features -> (B,) classes.

    Args:
        features: class -> features (N, D) of its images.
        centre: (D,) origin b; None: the mean of all features.
    """

    def __init__(self, features: dict[int, Float64], centre: Float64 | None = None) -> None:
        self.centre: Float64 = (
            np.concatenate(list(features.values())).mean(axis=0) if centre is None else centre
        )
        self._classes = np.array(list(features))
        means = [_unit(rows - self.centre).mean(axis=0) for rows in features.values()]
        self._means = _unit(np.stack(means))

    def __call__(self, features: Float64) -> NDArray[np.int64]:
        nearest = (_unit(features - self.centre) @ self._means.T).argmax(axis=1)
        classes: NDArray[np.int64] = self._classes[nearest]
        return classes


def _unit(vectors: Float64) -> Float64:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Float64 = vectors / np.maximum(norms, np.finfo(float).tiny)
    return unit


def reader(new: NewClass, features: str) -> Read:
    """The reader of one of `FEATURES`."""
    if features == CLIP:
        return few_shot_features.of_clip(new.task.clip)
    return few_shot_features.of_model(new.model)


def _old_images(new: NewClass, split: str, count: int) -> dict[int, Sequence[Item]]:
    """Images of each class but the new one."""
    labels = [label for label in range(len(new.names)) if label != new.label]
    return {label: new.images(split, label, count) for label in labels}


@cache
def _best_place(new: NewClass, features: str) -> str:
    """The place whose class means are right most often on validation images of the old classes."""
    read = reader(new, features)
    train = {k: read(v) for k, v in _old_images(new, "train", OLD_IMAGES).items()}
    held_out = _old_images(new, "validation", VALIDATION_IMAGES)
    images = [item for items in held_out.values() for item in items]
    labels = np.repeat(list(held_out), [len(items) for items in held_out.values()])
    rows = read(images)

    def accuracy(place: str) -> float:
        means = ClassMeans({k: found[place] for k, found in train.items()})
        return float((means(rows[place]) == labels).mean())

    return max(rows, key=accuracy)
