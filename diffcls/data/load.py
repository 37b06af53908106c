"""From a data set's name to its images: bundled, on this machine, or on the Hub."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path

from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.subsets import hold_out
from diffcls.support.errors import DataError, UsageError

# what a local folder may be, where it is not laid out as the set's makers do it
LOCAL = ("diffcls.data.sources.parquet:find", "diffcls.data.sources.folder:find")

SPLIT_NAME = re.compile(r"\w[\w.-]*")


def load_dataset(
    name: str,
    split: str = "test",
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Dataset:
    """The images of a split.

    Args:
        name: a row's name, ``folder:PATH``, ``parquet:PATH`` or ``hf:ID[@revision]``.
        split: one of the row's splits.
        root: where local data lie: the set's own folder or its parent; without it, the Hub's copy.
        image_column, label_column: of tables; found by their names and types where not given.

    Raises:
        UsageError: for an unknown name or split.
        DataError: when the images cannot be found.
    """
    spec = catalog.find(name)
    if spec.splits and split not in spec.splits:
        raise UsageError(f"unknown split of {spec.name}", given=split, allowed=spec.splits)
    if not SPLIT_NAME.fullmatch(split):  # it becomes part of a path
        raise UsageError("no name of a split", given=split, allowed="letters, digits, . - _")
    place = name.partition(":")[2] if not spec.splits else ""
    folder = Path(place) if place else (Path(root) if root else None)
    held_out = bool(spec.validation) and split in ("train", "validation")
    query = catalog.Query(spec, "train" if held_out else split, folder, image_column, label_column)
    dataset = _load(query)
    if held_out:
        rest, part = hold_out(dataset, min(spec.validation, len(dataset) // 5))
        dataset = replace(rest if split == "train" else part, split=split)
    return dataset


def _load(query: catalog.Query) -> Dataset:
    spec = query.spec
    if spec.source is not None:
        found = _call(spec.source, query)
    elif query.root is None:
        found = _call("diffcls.data.sources.hub:load", query)
    else:
        found = _local(query)
    if found is None:
        raise DataError(
            f"no {spec.name} found there",
            given=str(query.root),
            allowed="its makers' or torchvision's layout, parquet files, or one folder a class "
            f"(under {query.split}/), in that folder or one below it",
        )
    return found


def _local(query: catalog.Query) -> Dataset | None:
    """The first way of reading the folder that finds something; the set's own layout comes first.

    Raises:
        DataError: when there is no such folder.
    """
    if query.root is not None and not query.root.is_dir():
        raise DataError("data folder not found", given=str(query.root), todo="check --data-root")
    for place in (query.spec.layout, *LOCAL):
        found = _call(place, query) if place else None
        if found is not None:
            return found
    return None


def _call(place: str, query: catalog.Query) -> Dataset | None:
    module, function = place.split(":")
    found: Dataset | None = getattr(importlib.import_module(module), function)(query)
    return found
