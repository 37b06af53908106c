"""Every data set the harness knows: one row each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.data.dataset import Dataset
from diffcls.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Stages:
    """The published stages of a data set: samples and classes kept, and the loss.

    Source: Li et al. 2023, the commands published with the paper.
    """

    samples: tuple[int, ...]
    keep: tuple[int, ...]
    loss: str = "l2"


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Args:
        name: full name, as in the leaderboard.
        source: ``"module:function"``; the function takes (split, root) and returns a `Dataset`.
        model: default model.
        templates: default prompts, one ``{}`` each.
        stages: of the `paper` search.
        splits: names of the splits.
    """

    name: str
    source: str
    model: str
    templates: tuple[str, ...]
    stages: Stages = Stages((50, 500), (5, 1))
    splits: tuple[str, ...] = ("test", "validation", "train")


SPECS: Mapping[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="digits",
            source="diffcls.data.digits:load",
            model="digits",
            templates=("a photo of a handwritten digit {}.",),
        ),
    )
}

# kinds of data of a person's own: KIND:PLACE
KINDS: Mapping[str, str] = {"folder": "diffcls.data.folder:load"}


def find(name: str) -> DatasetSpec:
    """The row of a data set, or one made for ``folder:PATH``.

    Raises:
        UsageError: for an unknown name, with the allowed ones and a "did you mean".
    """
    kind, _, place = name.partition(":")
    if kind in KINDS and place:
        return DatasetSpec(
            name=f"{kind}:{Path(place).name}",
            source=KINDS[kind],
            model="",
            templates=("a photo of a {}.",),
            splits=(),
        )
    if name not in SPECS:
        raise unknown_name("dataset", name, [*SPECS, *(f"{k}:PATH" for k in KINDS)])
    return SPECS[name]


def load(name: str, split: str = "test", root: str | Path | None = None) -> Dataset:
    """The images of a split.

    Args:
        name: a row's name, or ``folder:PATH``.
        split: one of the row's splits.
        root: where local data lie: the set's own folder or its parent.

    Raises:
        UsageError: for an unknown name or split.
        DataError: when the images cannot be found.
    """
    spec = find(name)
    if spec.splits and split not in spec.splits:
        raise UsageError(f"unknown split of {name}", given=split, allowed=spec.splits)
    module, function = spec.source.split(":")
    source: Any = getattr(importlib.import_module(module), function)
    place = name.partition(":")[2]
    dataset: Dataset = source(split, Path(place) if place else (Path(root) if root else None))
    return dataset
