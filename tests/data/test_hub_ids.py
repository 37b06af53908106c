"""Hub ids of the catalog's data sets."""

from __future__ import annotations

import pytest

from diffcls.data import catalog
from diffcls.data.hub_ids import OTHER_IDS, benchmark_of, is_personal


@pytest.mark.parametrize(
    ("name", "benchmark"),
    [
        ("hf:uoft-cs/cifar10", "cifar10"),
        ("hf:uoft-cs/cifar10@refs/convert/parquet", "cifar10"),
        ("hf:UofT-CS/CIFAR10", "cifar10"),
        ("hf:cifar10", "cifar10"),
        ("hf:zalando-datasets/fashion_mnist@main", "fashion_mnist"),
        ("hf:someone/cifar10", "hf:someone/cifar10"),
        ("folder:cifar10", "folder:cifar10"),
        ("cifar10", "cifar10"),
        ("scenes:20", "scenes:20"),
    ],
)
def test_known_copies_are_the_benchmark(name: str, benchmark: str) -> None:
    assert benchmark_of(name) == benchmark


def test_every_other_id_is_of_a_data_set_of_the_catalog() -> None:
    assert set(OTHER_IDS.values()) <= set(catalog.SPECS)
    assert all(name == name.lower() for name in OTHER_IDS)


def test_a_persons_data_have_a_prefix() -> None:
    assert all(map(is_personal, ("folder:a", "parquet:a.parquet", "hf:me/mine", "hf:me/cifar10")))
    assert not any(map(is_personal, (*catalog.SPECS, "scenes:20", "hf:uoft-cs/cifar10")))
