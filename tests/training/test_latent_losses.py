"""Sampling of training images by the words of their classes."""

from __future__ import annotations

import torch

from diffcls.training.latent_losses import draw_images, image_weights
from diffcls.training.loop import generator


def test_the_largest_weight_of_the_words_in_a_name_counts() -> None:
    names = ["a cup", "two cups", "two cups above a cup", "a cup"]
    weights = image_weights(names, {"two": 2.0, "above": 3.0})
    assert weights is not None
    assert weights.tolist() == [1.0, 2.0, 3.0, 1.0]
    assert image_weights(names, {}) is None


def test_images_are_drawn_by_their_weights() -> None:
    weights = torch.tensor([1.0, 0.0, 3.0])
    share = draw_images(3, 40_000, weights, generator("images")).bincount(minlength=3) / 40_000
    # four standard errors of a share of a quarter
    torch.testing.assert_close(share, weights / 4, atol=4 * (3 / 16 / 40_000) ** 0.5, rtol=0)
    even = draw_images(3, 40_000, None, generator("images")).bincount(minlength=3) / 40_000
    torch.testing.assert_close(even, torch.full((3,), 1 / 3), atol=0.01, rtol=0)
