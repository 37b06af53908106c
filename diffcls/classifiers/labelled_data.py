"""Labelled images for methods that are trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffcls.classifiers.one_pass import Pixels
from diffcls.classifiers.options import ClassifierOptions
from diffcls.data.catalog import DatasetSpec
from diffcls.data.class_names import shorten
from diffcls.data.dataset import Dataset, Item
from diffcls.data.load import load_split
from diffcls.data.subsets import choose
from diffcls.data.transforms import load_image, to_pixels
from diffcls.support.errors import DataError, UsageError
from diffcls.support.progress import Progress
from diffcls.training.recipe_table import RECIPES
from diffcls.training.recipes import Augmentation, Recipe

if TYPE_CHECKING:
    from torch import Tensor

MAX_TRAINING_IMAGES = 100_000
"""Larger sets are reduced to a stratified sample of this size."""


def check(
    options: ClassifierOptions,
    spec: DatasetSpec,
    splits: Sequence[str] = ("train", "validation"),
) -> None:
    """Check that a data set has training and validation images.

    Args:
        splits: the splits that the method reads.

    Raises:
        UsageError: if it lacks one of the splits.
    """
    lacking = [split for split in splits if split not in spec.splits]
    if lacking:
        raise UsageError(
            f"{spec.name} has no labelled images for training",
            given=f"no split {' and no split '.join(lacking)}",
            todo="remove the methods that need labels from --method: sd-features, features and "
            "reference",
        )


def is_quiet(options: ClassifierOptions) -> bool:
    """Whether fits show no progress: the commands that evaluate have the option ``quiet``."""
    return bool(getattr(options, "quiet", False))


def load(options: ClassifierOptions, split: str, class_names: tuple[str, ...]) -> Dataset:
    """The images of a split and their labels, at most `MAX_TRAINING_IMAGES` of them.

    Raises:
        DataError: if the classes of the split are not `class_names`.
    """
    dataset = load_split(options, split)
    check_classes(split, dataset.class_names, options.split, class_names)
    return choose(dataset, limit=min(MAX_TRAINING_IMAGES, len(dataset)))[0]


def check_classes(split: str, names: Sequence[str], other: str, expected: Sequence[str]) -> None:
    """Check that two splits have the same classes in the same order.

    Args:
        split: one split.
        names: its classes.
        other: the other split.
        expected: its classes.

    Raises:
        DataError: if the classes differ.
    """
    if tuple(names) == tuple(expected):
        return
    only = [name for name in names if name not in expected]
    lacking = [name for name in expected if name not in names]
    raise DataError(
        f"the classes of split {split} are not those of split {other}",
        given=f"{len(names)} of {len(expected)}"
        + (f"; only in {split}: {shorten(only)}" if only else "")
        + (f"; not in {split}: {shorten(lacking)}" if lacking else ""),
    )


def recipe_of(spec: DatasetSpec) -> Recipe | None:
    """Training recipe of the data set's small diffusion model, or None."""
    return RECIPES.get(spec.name) or RECIPES.get(spec.name.partition("/")[0])


def augmentation_of(spec: DatasetSpec) -> Augmentation:
    """Augmentation with which the data set's small diffusion model was trained."""
    recipe = recipe_of(spec)
    return recipe.augmentation if recipe else Augmentation(flip=True)


def batches(data: Dataset, size: int, batch_size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, 3, size, size) images in [−1, 1] and (B,) labels, in order."""
    return read_batches(data, lambda item: to_pixels(load_image(item.open()), size), batch_size)


def read_batches(
    data: Dataset, read: Callable[[Item], Pixels], batch_size: int = 64
) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, 3, H, W) images as `read` returns them and (B,) labels, in order."""
    import torch

    for start in range(0, len(data), batch_size):
        items = data.items[start : start + batch_size]
        pixels = np.stack([read(item) for item in items])
        yield torch.from_numpy(pixels), torch.tensor([item.label for item in items])


def tensors(data: Dataset, size: int, quiet: bool = True) -> tuple[Tensor, Tensor]:
    """All images and labels of a data set at once; see `batches`."""
    import torch

    images, labels = [], []
    with Progress(len(data), f"reading {data.split} images", quiet=quiet) as progress:
        for pixels, truth in batches(data, size):
            images.append(pixels)
            labels.append(truth)
            progress.update(len(truth))
    return torch.cat(images), torch.cat(labels)
