"""Token ids of training captions: new ones for each image, and those of a pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from diffcls.models.small_stable_diffusion import TinyConfig, build_tokenizer
from diffcls.training.caption_batches import new_captions, pooled_captions, tokenize
from diffcls.training.loop import generator

LABELS = [7, 3, 3, 7, 5]
NAMES = {3: "cat", 5: "dog", 7: "mouse"}


def caption(image: int, number: int) -> str:
    return f"a {NAMES[LABELS[image]]} {number % 10}"


@pytest.fixture(scope="module")
def tokenizer() -> Iterator[object]:
    yield build_tokenizer(map("a {}".format, NAMES.values()), TinyConfig(max_tokens=12))


def texts(tokenizer: object, ids: Tensor) -> list[str]:
    decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)  # type: ignore[attr-defined]
    return [text.strip() for text in decoded]


def test_each_image_seen_has_the_caption_of_its_number(tokenizer: object) -> None:
    images, dropped = torch.tensor([1, 4, 0]), torch.tensor([False, True, False])
    ids = new_captions(tokenizer, caption)(images, dropped, 20, generator("unused"))
    assert torch.equal(ids, tokenize(tokenizer, ["a cat 0", "", "a mouse 2"]))


def test_a_pool_gives_each_image_a_caption_of_its_class(tokenizer: object) -> None:
    batch = pooled_captions(tokenizer, caption, LABELS, 4, "cpu")
    images = torch.arange(len(LABELS)).repeat(200)
    dropped = torch.arange(len(images)) % 3 == 0
    drawn = texts(tokenizer, batch(images, dropped, 0, generator("pool")))
    for image, drop, text in zip(images.tolist(), dropped.tolist(), drawn, strict=True):
        assert text == "" if drop else text.startswith(f"a {NAMES[LABELS[image]]} ")
    # 4 captions of each of 3 classes, and the empty one
    assert len(set(drawn)) == 3 * 4 + 1


def test_a_pool_depends_on_its_generator_alone(tokenizer: object) -> None:
    images = torch.tensor([0, 1, 2, 3, 4] * 20)
    first, again = (pooled_captions(tokenizer, caption, LABELS, 4, "cpu") for _ in range(2))
    ids = first(images, None, 0, generator("pool", 1))
    first(images, None, 0, generator("pool", 2))
    assert torch.equal(again(images, None, 900, generator("pool", 1)), ids)
    assert not torch.equal(first(images, None, 0, generator("pool", 2)), ids)
