"""Small artificial data sets, whose images must not be opened."""

from __future__ import annotations

from PIL import Image

from diffcls.data.dataset import Dataset, Item


def no_image() -> Image.Image:
    raise AssertionError("the image was opened although the test needs none")


def made_up(counts: tuple[int, ...]) -> Dataset:
    items = [Item(f"{k}/{i}", k, no_image) for k, n in enumerate(counts) for i in range(n)]
    names = tuple(f"class {k}" for k in range(len(counts)))
    return Dataset("made-up", "test", names, tuple(items), "r")


def ids(dataset: Dataset) -> list[str]:
    return [item.image_id for item in dataset.items]
