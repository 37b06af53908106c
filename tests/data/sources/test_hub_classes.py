"""Classes of a catalog data set's copy on the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.parquet_files import grays
from helpers.small_hub import TEST_FILE, TRAIN_FILE, fill, parquet

from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError


def test_copy_on_the_hub_with_another_number_of_classes_is_refused(cache: Path) -> None:
    names = [f"category_{k}" for k in range(101)]
    fill(cache, "flwrlabs/caltech101", {TRAIN_FILE: parquet([5, 6, 7], {"label": names})})
    dataset = load_dataset("caltech101")
    assert grays(dataset) == [5, 6, 7] and dataset.split == "test"
    assert dataset.prompt_names[100] == "category 100"
    background = {"label": [*names, "background"]}
    fill(cache, "flwrlabs/caltech101", {TRAIN_FILE: parquet([5, 6, 7], background)})
    with pytest.raises(DataError, match=r"not have the classes of caltech101: '102 classes"):
        load_dataset("caltech101")


def test_flowers_have_the_published_names_on_the_hub_too(cache: Path) -> None:
    names = {"label": ["globe-flower", "pink-yellow dahlia?", "ball moss", "rose"]}
    fill(cache, "dpdl-benchmark/oxford_flowers102", {TEST_FILE: parquet([5, 6, 7], names)})
    published = ("globe flower", "pink and yellow dahlia", "air plant", "rose")
    assert load_dataset("flowers102").class_names == published
