"""Reading of original layouts in tests, and comparison with torchvision's readers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from diffcls.data import catalog
from diffcls.data.dataset import Dataset

TEN_NAMES = [f"name {i}" for i in range(10)]


def read_layout(name: str, root: Path, split: str = "test") -> Dataset | None:
    """A split as the layout of a data set reads it; None if it is not recognised."""
    module = importlib.import_module(f"diffcls.data.layouts.{name}")
    dataset: Dataset | None = module.load(catalog.Query(catalog.find(name), split, root))
    return dataset


def read_images(name: str, root: Path, split: str = "test") -> Dataset:
    """A split of a layout that must be recognised, with unique image ids."""
    dataset = read_layout(name, root, split)
    assert dataset is not None
    ids = [item.image_id for item in dataset.items]
    assert len(set(ids)) == len(ids)
    return dataset


def summary(dataset: Dataset) -> tuple[Any, ...]:
    """Class names, revision, image ids and labels."""
    return dataset.class_names, dataset.revision, [(i.image_id, i.label) for i in dataset.items]


def assert_same_as_torchvision(dataset: Dataset, reference: Any) -> None:
    """Images, labels and their order are those of a torchvision data set."""
    assert len(dataset) == len(reference) > 0
    assert list(dataset.class_names) == list(reference.classes)
    for item, (image, label) in zip(dataset.items, reference, strict=True):
        assert item.label == label
        assert np.array_equal(np.asarray(item.open()), np.asarray(image.convert("RGB")))
