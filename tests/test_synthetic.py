"""A classifier that never saw a real image before the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import diffcls
from diffcls import recipes
from diffcls.errors import UsageError
from diffcls.methods import synthetic
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.prompts import PromptSet
from diffcls.recipes import Recipe

Pipelines = Callable[[str], Path]


def colours() -> GaussianDenoiser:
    """Two classes: reddish and bluish pictures of 8 × 8 pixels."""
    means = {name: torch.zeros(3, 8, 8) for name in ("", "red", "crimson", "blue")}
    means["red"][0], means["crimson"][0], means["blue"][2] = 0.7, 0.7, 0.7
    return GaussianDenoiser(means, 0.05)


def test_classes_are_drawn_in_turn_and_their_prompts_too() -> None:
    prompts = PromptSet(("warm", "cold"), ("red", "crimson", "blue"), (0, 0, 1))
    drawn = synthetic.draw(colours(), prompts, 10, 1.0, 8, seed=0)
    images, labels = drawn["images"], drawn["labels"]
    assert images.shape == (20, 8, 8, 3) and images.dtype == np.uint8
    assert labels.tolist() == [0, 1] * 10
    red, blue = images[..., 0].mean(axis=(1, 2)), images[..., 2].mean(axis=(1, 2))
    assert ((red > blue) == (labels == 0)).all()
    again = synthetic.draw(colours(), prompts, 10, 1.0, 8, seed=0)
    assert np.array_equal(again["images"], images)
    assert not np.array_equal(
        synthetic.draw(colours(), prompts, 10, 1.0, 8, seed=1)["images"], images
    )


def test_a_thousand_images_a_class_and_fewer_of_very_many() -> None:
    assert [synthetic.images_a_class(k) for k in (2, 10, 24, 96, 1000)] == [
        *(1000, 1000, 1000, 200, 200)
    ]


def test_run_draws_once_and_learns_once(
    tiny_pipeline: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "digits", Recipe(images=512))  # type: ignore[misc]
    monkeypatch.setattr(synthetic, "STEPS", 2)
    wishes = {
        "method": "synthetic",
        "model": str(tiny_pipeline("v_prediction")),
        "output_dir": str(tmp_path),
        "images_per_class": 10,
        "quiet": True,
    }
    (row,) = diffcls.run_evaluation(limit=10, **wishes)
    assert (row["supervision"], row["evaluations_per_image"]) == ("zero-shot", 0)
    kept = sorted(path.name.partition("-")[0] for path in (tmp_path / "fits").glob("*.npz"))
    assert kept == ["drawn", "synthetic"]
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "draw", None)
        patch.setattr(synthetic, "_learn", None)
        (more,) = diffcls.run_evaluation(limit=20, **wishes)
    assert more["n_scored"] == 20
    diffcls.run_evaluation(limit=10, guidance=1.0, **wishes)
    assert len(list((tmp_path / "fits").glob("drawn-*.npz"))) == 2


def test_numbers_out_of_range_are_refused() -> None:
    for wishes, message in (
        ({"guidance": -1.0}, "guidance out of range"),
        ({"images_per_class": 3}, "images per class out of range"),
        ({"dataset": "scenes/pairs", "model": "digits"}, "no classes to draw"),
    ):
        with pytest.raises(UsageError, match=message):
            diffcls.run_evaluation(method="synthetic", **wishes)
