"""Images of a concept, and their changed copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffcls.concepts.images import ConceptImages, in_memory
from diffcls.data.transforms import to_pixels

SIDE = 16


class Identity:
    """A denoiser whose latents are the pixels."""

    image_size, interpolation = SIDE, "bicubic"

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        assert len(pixels) <= 8 and pixels.shape[1:] == (3, SIDE, SIDE)
        return pixels


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(60, 160, (20, 20, 3), np.uint8)) for _ in range(3)]


def encoded(pictures: list[Image.Image], *arguments: int) -> torch.Tensor:
    images: ConceptImages = in_memory([lambda one=one: one for one in pictures])  # type: ignore[misc]
    denoiser: Any = Identity()
    return images.encode(denoiser, *arguments)


def test_copies_follow_their_image_which_stays_as_it_is(pictures: list[Image.Image]) -> None:
    whole = encoded(pictures, 5, 1)
    assert whole.shape == (18, 3, SIDE, SIDE)
    for number, picture in enumerate(pictures):
        group = whole[6 * number : 6 * number + 6]
        assert torch.equal(group[0], torch.from_numpy(to_pixels(picture, SIDE)))
        assert len({copy.numpy().tobytes() for copy in group}) == 6
        assert float(group.abs().max()) <= 1.0
    assert torch.equal(encoded(pictures), whole[::6])


def test_copies_depend_on_seed_and_number_alone(pictures: list[Image.Image]) -> None:
    whole = encoded(pictures, 2, 1)
    assert torch.equal(encoded(pictures[:2], 2, 1), whole[:6])
    assert torch.equal(encoded(pictures, 1, 1).view(3, 2, -1), whole.view(3, 3, -1)[:, :2])
    other = encoded(pictures, 2, 2)
    assert torch.equal(other[::3], whole[::3]) and not torch.equal(other[1], whole[1])
