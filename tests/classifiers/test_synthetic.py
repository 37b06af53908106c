"""Classifier trained on generated images: images, training split and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

import diffcls
from diffcls.classifiers import synthetic
from diffcls.data import catalog
from diffcls.data.prompts import PromptSet
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.evaluation.options import EvaluationOptions
from diffcls.generation import solvers
from diffcls.generation.guidance import guided
from diffcls.generation.sample import sample
from diffcls.generation.solvers import multistep_scheduler
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.support.errors import UsageError
from diffcls.training import recipe_table, supervised
from diffcls.training.recipes import Augmentation, Recipe
from diffcls.training.supervised import Supervised, TrainedClassifier

Pipelines = Callable[[str], Path]


def colours() -> GaussianDenoiser:
    """An exact denoiser of reddish and bluish images of 8 × 8 pixels."""
    means = {name: torch.zeros(3, 8, 8) for name in ("", "red", "crimson", "blue")}
    means["red"][0], means["crimson"][0], means["blue"][2] = 0.7, 0.7, 0.7
    means["crimson"][1] = 0.5
    return GaussianDenoiser(means, 0.05)


def test_images_cycle_through_classes_and_their_prompts() -> None:
    prompts = PromptSet(("warm", "cold"), ("red", "crimson", "blue"), (0, 0, 1))
    drawn = synthetic.generate(colours(), prompts, 10, 1.0, 8, seed=0)
    images, labels = drawn["images"], drawn["labels"]
    assert images.shape == (20, 8, 8, 3) and images.dtype == np.uint8
    assert labels.tolist() == [0, 1] * 10
    red, blue = images[..., 0].mean(axis=(1, 2)), images[..., 2].mean(axis=(1, 2))
    assert ((red > blue) == (labels == 0)).all()
    green = images[labels == 0][..., 1].mean(axis=(1, 2))
    assert (green > 160).tolist() == [False, True] * 5
    again = synthetic.generate(colours(), prompts, 10, 1.0, 8, seed=0)
    assert np.array_equal(again["images"], images)
    assert not np.array_equal(
        synthetic.generate(colours(), prompts, 10, 1.0, 8, seed=1)["images"], images
    )


def test_default_is_a_thousand_images_per_class_and_fewer_for_many_classes() -> None:
    assert [synthetic.default_images_per_class(k) for k in (2, 10, 24, 96, 1000)] == [
        *(1000, 1000, 1000, 200, 200)
    ]


@pytest.mark.slow
def test_images_are_generated_once_and_weights_trained_once(
    tiny_pipeline: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipe_table.RECIPES, "digits", Recipe(images=1))  # type: ignore[misc]
    monkeypatch.setattr(synthetic, "STEPS", 1)
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
        patch.setattr(synthetic, "generate", None)
        patch.setattr(synthetic, "_learn", None)
        (more,) = diffcls.run_evaluation(limit=20, **wishes)
    assert more["n_scored"] == 20
    for name in ("generate", "_learn"):  # fails if the cache is not used
        with monkeypatch.context() as patch:
            patch.setattr(synthetic, name, None)
            with pytest.raises(TypeError, match="not callable"):
                diffcls.run_evaluation(limit=10, guidance=1.0, **wishes)


def test_image_size_and_precision_change_the_fingerprint(
    tiny_pipeline: Pipelines, tmp_path: Path
) -> None:
    prompts = PromptSet.from_templates(tuple("0123456789"), ("{}",))

    def definition(**wishes: Any) -> str:
        options = EvaluationOptions(
            method=("synthetic",), model=str(tiny_pipeline("v_prediction")), **wishes
        )
        return json.dumps(synthetic.build(options, catalog.find("digits"), prompts).search_options)

    # both sizes are reduced to a side of 64
    every = [definition(img_size=64), definition(img_size=128), definition(dtype="bfloat16")]
    assert len(set(every)) == 3
    assert definition(img_size=64, output_dir=str(tmp_path)) == every[0]


def test_held_out_images_are_a_tenth_in_complete_cycles_of_the_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Tensor] = []

    def train(
        images: Tensor, labels: Tensor, held: tuple[Tensor, Tensor], *_: object
    ) -> TrainedClassifier:
        given.extend([images, labels, *held])
        return TrainedClassifier({}, 0.5, 1)

    monkeypatch.setattr(supervised, "train_classifier", train)
    images = np.arange(4 * 25 * 3 * 4, dtype=np.uint32).reshape(100, 2, 2, 3) % 256
    drawn = {"images": images.astype(np.uint8), "labels": np.arange(100) % 4}
    synthetic._learn(drawn, 4, Supervised(images=1), Augmentation(), 0)
    seen, labels, held, held_labels = given
    assert held_labels.bincount().tolist() == [2] * 4 and labels.bincount().tolist() == [23] * 4
    back = (torch.cat([held, seen]).permute(0, 2, 3, 1) + 1) * 127.5
    assert np.array_equal(back.round().numpy(), images)
    assert torch.equal(torch.cat([held_labels, labels]), torch.arange(100) % 4)


# ---- the sampler on an exact denoiser; see also generation/test_samplers.py ---------------------


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "flow"])
def test_samples_at_guidance_one_are_exact_expectations(prediction_type: str) -> None:
    spread, mean = 0.2, torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    model = GaussianDenoiser({"": -mean, "a": mean}, spread, prediction_type=prediction_type)
    x_t = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    cond, empty = model.encode_prompts(["a", "a"]), model.encode_prompts([""])
    alpha, sigma = float(model.schedule.alpha[400]), float(model.schedule.sigma[400])
    # E[ε | x_t] = σ·(x_t − α·μ)/(α²s² + σ²);  E[x0 | x_t] = μ + α·s²·(x_t − α·μ)/(α²s² + σ²)
    parts = [(x_t - alpha * mu) / (alpha**2 * spread**2 + sigma**2) for mu in (mean, -mean)]
    x0, noise, _ = guided(model, cond, empty, 1.0)(x_t, 400)
    assert torch.allclose(noise, sigma * parts[0], atol=1e-4)
    assert torch.allclose(x0, mean + alpha * spread**2 * parts[0], atol=1e-4)
    x0, noise, _ = guided(model, cond, empty, 3.0)(x_t, 400)
    wanted = sigma * (3 * parts[0] - 2 * parts[1])
    assert torch.allclose(noise, wanted, atol=1e-4)
    assert torch.allclose(x0, (x_t - sigma * wanted) / alpha, atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_schedule_of_zero_terminal_snr_is_sampled(scale: float) -> None:
    """Lin et al. 2024: α is 0 at the last level, and x0 is known from v alone."""
    means = {"": torch.zeros(3, 4, 4), "a": torch.full((3, 4, 4), 0.4)}
    schedule = NoiseSchedule.scaled_linear(rescale_zero_snr=True)
    assert schedule.alpha[-1] == 0.0
    model = GaussianDenoiser(means, 0.1, schedule, "v_prediction")
    images = torch.cat(
        [b.images for b in sample(model, ["a"] * 200, range(200), scale=scale, steps=60)]
    )
    # with guidance w the mean is μ(∅) + w·(μ(c) − μ(∅))
    assert float(images.mean()) == pytest.approx(0.4 * scale, abs=0.01)
    assert float(images.std(dim=0).mean()) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_sampling_stays_on_the_models_device(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def real_scheduler(levels: Sequence[float], flow: bool) -> Any:
        with unset_fake_temporarily():  # diffusers makes the scheduler's constants with numpy
            return multistep_scheduler(levels, flow)

    monkeypatch.setattr(solvers, "multistep_scheduler", real_scheduler)
    # fake tensors follow torch's rules for operations across devices
    with FakeTensorMode(allow_non_fake_inputs=True):
        means = {name: torch.zeros(3, 4, 4) for name in ("", "a", "b")}
        model = GaussianDenoiser(means, 0.1, device="cuda")
        (batch,) = sample(model, ["a", "b"], [0, 1], scale=scale, steps=3, batch_size=2)
        assert batch.images.shape == (2, 3, 4, 4) and batch.images.device.type == "cpu"


# ---- refusals -----------------------------------------------------------------------------------


def test_numbers_out_of_range_are_refused() -> None:
    for wishes, message in (
        ({"guidance": -1.0}, "guidance out of range"),
        ({"images_per_class": 3}, "--images-per-class out of range"),
        ({"dataset": "scenes/pairs", "model": "digits"}, "needs classes that all images share"),
    ):
        with pytest.raises(UsageError, match=message):
            diffcls.run_evaluation(method="synthetic", **wishes)
