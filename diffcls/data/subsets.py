"""Subsets of a split: stratified samples, images per class, or a file of indices."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffcls.data.dataset import Dataset
from diffcls.support.errors import DataError, UsageError
from diffcls.support.hashing import content_hash
from diffcls.support.seeding import key

TRAINING_SPLITS = ("train", "validation")


def choose(
    dataset: Dataset,
    limit: int | None = None,
    subset: str | None = None,
    indices: str | None = None,
) -> tuple[Dataset, str]:
    """Subset of a split, and its entry in the run's fingerprint.

    The sample depends only on the data set, not on the seed of the noise. Runs with different seeds
    can therefore be compared image by image, and a larger limit includes the images of a smaller
    one.

    Args:
        dataset: the whole split.
        limit: size of a stratified sample, at least 1.
        subset: ``N-per-class``, the first N images per class in random order.
        indices: file of positions in the split, as text or a ``.npy`` array.

    Returns:
        The images in the order of the split, and ``all`` or ``COUNT:HASH`` of the image ids.

    Raises:
        UsageError: for more than one of the three, or an invalid value.
        DataError: if the file of indices is missing, unreadable or out of range.
    """
    rules = [rule for rule in (limit, subset, indices) if rule is not None]
    if not rules:
        return dataset, "all"
    if len(rules) > 1:
        raise UsageError(
            "more than one subset given", given=rules, allowed="one of --limit, --subset, --indices"
        )
    if indices is not None:
        chosen = _from_file(Path(indices), len(dataset))
    elif limit is not None:
        if not 1 <= limit:
            raise UsageError("--limit out of range", given=limit, allowed="1 or more")
        chosen = stratified_order(dataset)[:limit]
    else:
        count = re.fullmatch(r"([1-9]\d*)-per-class", str(subset))
        if count is None:
            raise UsageError("--subset: invalid value", given=subset, allowed="N-per-class")
        chosen = [i for order in _order_by_class(dataset) for i in order[: int(count[1])]]
    part = dataset.take(sorted(chosen))
    if len(part) == len(dataset):
        return dataset, "all"
    # from the image ids only, so that different rules with the same images are the same subset
    return part, f"{len(part)}:{content_hash(*(item.image_id for item in part.items))}"


def sample(dataset: Dataset, count: int) -> tuple[Dataset, str]:
    """A keyed random sample that reads no label, and its entry in the run's fingerprint.

    Unlike that of `choose` it is not stratified, which takes labels.

    Args:
        dataset: the whole split.
        count: size of the sample, at least 1.

    Raises:
        UsageError: for more images than the split has.
    """
    if not 1 <= count <= len(dataset):
        raise UsageError(
            f"sample of the split {dataset.split} out of range",
            given=count,
            allowed=f"1 to {len(dataset):,} images",
        )
    generator = random.Random(key("unlabelled", dataset.name, dataset.split))
    part = dataset.take(sorted(generator.sample(range(len(dataset)), count)))
    return part, f"{len(part)}:{content_hash(*(item.image_id for item in part.items))}"


def hold_out(dataset: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """A split without a fixed, stratified sample of `count` images, and that sample.

    Raises:
        DataError: if no image would be left.
    """
    if count >= len(dataset):
        raise DataError(
            f"too few training images in {dataset.name} to hold out a validation split",
            given=len(dataset),
            allowed=f"more than {count}",
        )
    held = set(stratified_order(dataset)[:count])
    return (
        dataset.take([i for i in range(len(dataset)) if i not in held]),
        dataset.take(sorted(held)),
    )


def part_of_whole(dataset: Dataset, split: str) -> Dataset:
    """A split of images that are not divided into splits.

    All of them are the test split; a fixed, stratified tenth of them is held out of ``train`` as
    ``validation``.
    """
    if split not in TRAINING_SPLITS:
        return dataset
    # the sample depends on the split's name, so both splits are cut from "train"
    whole = replace(dataset, split="train", undivided=True)
    rest, part = hold_out(whole, max(1, len(whole) // 10))
    return replace(rest if split == "train" else part, split=split)


def _order_by_class(dataset: Dataset) -> list[list[int]]:
    """Positions of the images of each class, in an order seeded by data set, split and class."""
    by_class: dict[int, list[int]] = defaultdict(list)
    for i, item in enumerate(dataset.items):
        by_class[item.label].append(i)
    for label, positions in by_class.items():
        random.Random(key("subset", dataset.name, dataset.split, label)).shuffle(positions)
    return [by_class[label] for label in sorted(by_class)]


def stratified_order(dataset: Dataset) -> list[int]:
    """All positions in an order of which every prefix is a stratified sample.

    Image j of a class with n images is sorted by (j + ½)/n. Ties between the first images of
    classes are broken at random, so that a prefix shorter than the number of classes is a random
    sample of classes.
    """
    ranks = [
        ((j + 0.5) / len(order), tie_break if j == 0 else 0, k, position)
        for k, order in enumerate(_order_by_class(dataset))
        for tie_break in [key("classes", dataset.name, dataset.split, k)]
        for j, position in enumerate(order)
    ]
    return [position for *_, position in sorted(ranks)]


def _from_file(path: Path, count: int) -> Sequence[int]:
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            if array.dtype.kind not in "iu":  # int() would accept 1.5 as 1, and a mask as 0 and 1
                raise ValueError(f"an array of {array.dtype}")
            values = array.ravel().tolist()
        else:
            values = path.read_text(encoding="utf-8").split()
        positions = [int(v) for v in values]
    except (OSError, ValueError) as error:
        raise DataError(
            f"--indices: cannot read file ({error})",
            given=str(path),
            allowed="a text file of integers, or a .npy array of integers",
        ) from error
    invalid = [i for i in positions if not 0 <= i < count]
    if invalid or not positions or len(set(positions)) != len(positions):
        raise DataError(
            "--indices: positions out of range, repeated, or missing",
            given=invalid[:5] or f"{len(positions)} positions",
            allowed=f"different positions from 0 to {count - 1}",
        )
    return positions
