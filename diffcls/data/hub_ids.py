"""Hub ids of the catalog's data sets: which ``hf:ID`` holds which benchmark."""

from __future__ import annotations

from collections.abc import Mapping

from diffcls.data import catalog

OTHER_IDS: Mapping[str, str] = {
    "cifar10": "cifar10",
    "clip-benchmark/wds_vtab-cifar10": "cifar10",
    "fashion_mnist": "fashion_mnist",
    "clip-benchmark/wds_stl10": "stl10",
    "clip-benchmark/wds_vtab-pets": "pets",
    "clip-benchmark/wds_vtab-flowers": "flowers102",
    "clip-benchmark/wds_food101": "food101",
    "food101": "food101",
    "imagenet-1k": "imagenet",
    "clip-benchmark/wds_imagenet1k": "imagenet",
}
"""Ids of other copies on the Hub, in lower case -> name of the catalog."""


def benchmark_of(name: str) -> str:
    """The catalog's name of ``hf:ID[@revision]`` for a known copy, else the name as it is."""
    prefix, _, argument = name.partition(":")
    if prefix != "hf":
        return name
    repository = argument.partition("@")[0].lower()
    own = {spec.hub.id.lower(): spec.name for spec in catalog.SPECS.values() if spec.hub}
    return own.get(repository) or OTHER_IDS.get(repository) or name


def is_personal(name: str) -> bool:
    """Whether a full name is that of a person's own data, such as ``folder:photos``.

    A repository of the Hub is, unless it is known to hold a data set of the catalog.
    """
    prefix, colon, _ = benchmark_of(name).partition(":")
    return bool(colon) and prefix != "scenes"
