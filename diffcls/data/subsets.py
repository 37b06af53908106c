"""Subsets of a split: stratified samples, images per class, or a file of indices."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffcls.data.dataset import Dataset
from diffcls.support.errors import DataError, UsageError
from diffcls.support.hashing import content_hash
from diffcls.support.seeding import key


def choose(
    dataset: Dataset,
    limit: int | None = None,
    subset: str | None = None,
    indices: str | None = None,
) -> tuple[Dataset, str]:
    """The chosen images, in the order of the split, and what the fingerprint says of them.

    Which images are chosen depends on the data set alone, not on the seed of the noise: so runs
    that differ in their seed can be compared image by image, and a larger limit of the same data
    set keeps the images of a smaller one.

    Args:
        dataset: the whole split.
        limit: a stratified sample of that many images, the classes in turn.
        subset: ``N-per-class``: the first N of each class in the same order of sampling.
        indices: a file of positions, one a line, or a ``.npy`` array.

    Raises:
        UsageError: for more than one rule, or one that cannot be read or fulfilled.
        DataError: for a missing or unreadable file of indices.
    """
    rules = [rule for rule in (limit, subset, indices) if rule is not None]
    if not rules:
        return dataset, "all"
    if len(rules) > 1:
        raise UsageError(
            "more than one subset", given=rules, allowed="one of --limit --subset --indices"
        )
    if indices is not None:
        chosen = _from_file(Path(indices), len(dataset))
    elif limit is not None:
        if not 1 <= limit:
            raise UsageError("limit out of range", given=limit, allowed="1 or more")
        chosen = _in_turn(dataset)[:limit]
    else:
        count = re.fullmatch(r"([1-9]\d*)-per-class", str(subset))
        if count is None:
            raise UsageError("unknown subset", given=subset, allowed="N-per-class")
        queues = _queues(dataset)
        chosen = [i for q in queues for i in q[: int(count[1])]]
    part = dataset.take(sorted(chosen))
    if len(part) == len(dataset):
        return dataset, "all"
    # the images alone: two rules that choose the same ones are the same subset
    return part, f"{len(part)}:{content_hash(*(item.image_id for item in part.items))}"


def hold_out(dataset: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """A split without a fixed, stratified sample of `count` images, and that sample.

    Raises:
        DataError: when that would leave nothing.
    """
    if count >= len(dataset):
        raise DataError(
            f"{dataset.name} has too few training images to hold some out for validation",
            given=len(dataset),
            allowed=f"more than {count}",
        )
    held = set(_in_turn(dataset)[:count])
    return (
        dataset.take([i for i in range(len(dataset)) if i not in held]),
        dataset.take(sorted(held)),
    )


def _queues(dataset: Dataset) -> list[list[int]]:
    """Positions of each class, each shuffled by the data set's name and the class."""
    by_class: dict[int, list[int]] = defaultdict(list)
    for i, item in enumerate(dataset.items):
        by_class[item.label].append(i)
    for label, positions in by_class.items():
        random.Random(key("subset", dataset.name, dataset.split, label)).shuffle(positions)
    return [by_class[label] for label in sorted(by_class)]


def _in_turn(dataset: Dataset) -> list[int]:
    """All positions, one of each class after another, larger classes longer.

    Item j of a class with n images stands at (j + ½)/n: so every prefix is stratified. Where there
    are more classes than images are wanted, chance says which come first, not their order.
    """
    placed = [
        ((j + 0.5) / len(queue), by_chance if j == 0 else 0, k, position)
        for k, queue in enumerate(_queues(dataset))
        for by_chance in [key("classes", dataset.name, dataset.split, k)]
        for j, position in enumerate(queue)
    ]
    return [position for *_, position in sorted(placed)]


def _from_file(path: Path, count: int) -> Sequence[int]:
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            if array.dtype.kind not in "iu":  # 1.5 would become 1, a mask 0 and 1
                raise ValueError(f"an array of {array.dtype}")
            values = array.ravel().tolist()
        else:
            values = path.read_text(encoding="utf-8").split()
        positions = [int(v) for v in values]
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read indices ({error})",
            given=str(path),
            allowed="a text file of whole numbers, or a .npy array",
        ) from error
    bad = [i for i in positions if not 0 <= i < count]
    if bad or not positions or len(set(positions)) != len(positions):
        raise DataError(
            "indices out of range, given twice, or none",
            given=bad[:5] or f"{len(positions)} positions",
            allowed=f"different positions from 0 to {count - 1}",
        )
    return positions
