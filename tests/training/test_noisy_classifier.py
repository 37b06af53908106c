"""Classifiers of noisy images: trained by the command in seconds, saved, loaded, and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.interrupted_trainings import interrupt_calls
from safetensors.torch import load_file
from torch import Tensor

from diffcls import train
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models import loading, noisy_classifier
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.models.noisy_classifier import CHECKPOINT, NoisyClassifier
from diffcls.support.errors import ModelError
from diffcls.training import noisy_classifier as noisy_trainer
from diffcls.training import pixel_diffusion, pixel_losses, recipe_table
from diffcls.training.loop import Loop
from diffcls.training.pixel_losses import build_unet
from diffcls.training.recipes import NoisyRecipe, PixelRecipe

BATCH = 16
NOISY = NoisyRecipe(
    model="digits-pixels", widths=(8, 16), flip=False, images=4 * BATCH, batch=BATCH
)
NAMES = tuple("0123456789")


@pytest.fixture(autouse=True)
def _of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipe_table.NOISY_RECIPES, "digits", NOISY)  # type: ignore[misc]


def run(folder: Path, *flags: str) -> int:
    common = ["--output-dir", str(folder), "--model", "classifier", "--quiet"]
    return train.main([*common, *flags])


def card_of(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / loading.CARD).read_text(encoding="utf-8"))
    return card


def same(one: Path, other: Path) -> bool:
    """Whether the classifiers in two folders are the same to the bit."""
    mine, theirs = (load_file(folder / CHECKPOINT) for folder in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained pixel-space model to guide."""
    folder = tmp_path_factory.mktemp("models") / "digits-pixels"
    recipe = PixelRecipe(image_size=8, widths=(8, 16))
    pixel_diffusion.save(build_unet(recipe, 10), None, recipe, folder)
    card = {"name": "digits-pixels", "labels": list(NAMES)}
    (folder / loading.CARD).write_text(json.dumps(card), encoding="utf-8")
    return folder


def test_a_classifier_is_trained_at_the_noise_levels_of_the_model_that_it_guides(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--lead", str(model)) == 0
    assert f"--model {model} --guide classifier" in capsys.readouterr().out
    folder = tmp_path / "noisy-digits"
    card = card_of(folder)
    assert card["trained_with"] == "digits-pixels"
    assert card["shape"] == [1, 8, 8]
    assert card["recipe"]["model"] == str(model)
    accuracy = card["validation_accuracy_by_noise"]
    assert len(accuracy) == noisy_trainer.NOISE_RANGES
    assert card["curve"][-1]["images"] == 4 * BATCH
    assert card["curve"][-1]["validation_accuracy"] == pytest.approx(np.mean(accuracy), abs=1e-6)
    loaded = noisy_classifier.load(str(folder))
    assert loaded.class_names == NAMES

    # fine-tuning begins at the saved weights, which are the last averaged ones
    still = ("--images", str(BATCH), "--learning-rate", "1e-12", "--lead", str(model))
    assert run(tmp_path / "more", "--init", str(folder), *still) == 0
    more = tmp_path / "more" / "noisy-digits"
    assert same(more, folder)
    before = card_of(more)["continued_from"]
    assert before["images"] == 4 * BATCH
    assert before["revision"] == noisy_classifier.revision(folder)


def test_a_classifier_that_was_killed_ends_at_the_same_weights(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead = ("--lead", str(model))
    assert run(tmp_path / "whole", *lead) == 0
    interrupt_calls(monkeypatch, pixel_losses, "noised", {3})  # in the loss of the third step
    assert [run(tmp_path / "cut", *lead) for _ in range(2)] == [130, 0]
    assert same(tmp_path / "whole" / "noisy-digits", tmp_path / "cut" / "noisy-digits")


def untrained_classifier(seed: int = 0) -> NoisyClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NoisyClassifier(10, 1, (8, 16)).eval()


def saved_classifier(folder: Path) -> NoisyClassifier:
    model = untrained_classifier()
    noisy_classifier.save(model, folder)
    card = {
        "name": "noisy",
        "trained_with": "digits-pixels",
        "shape": [1, 8, 8],
        "labels": list(NAMES),
        "recipe": {"widths": [8, 16]},
    }
    (folder / loading.CARD).write_text(json.dumps(card), encoding="utf-8")
    return model


def test_a_classifier_loads_to_the_same_logits_up_to_half_precision(
    model: Path, tmp_path: Path
) -> None:
    ours = saved_classifier(tmp_path)
    denoiser = loading.load(str(model))
    g = torch.Generator().manual_seed(0)
    x_t = torch.randn(6, 1, 8, 8, generator=g)
    index = torch.tensor([0, 10, 300, 500, 998, 999])
    alpha, sigma = (
        torch.tensor(v[index.numpy()], dtype=torch.float32)
        for v in (denoiser.schedule.alpha, denoiser.schedule.sigma)
    )
    with torch.no_grad():
        exact = ours(x_t, alpha, sigma)
        halved = ours.half().float()(x_t, alpha, sigma)
    found = noisy_classifier.load(str(tmp_path)).logits_for(denoiser)(x_t, index)
    assert torch.equal(found, halved)
    assert (found - exact).abs().max() < 2e-3 * exact.abs().max()


def test_logits_depend_on_the_noise_level(tmp_path: Path) -> None:
    ours = untrained_classifier()
    x_t = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    with torch.no_grad():
        low, high = ours(x_t, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert (low - high).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 16, 16)])
def test_a_classifier_refuses_a_model_of_other_images(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    saved_classifier(tmp_path)
    loaded = noisy_classifier.load(str(tmp_path))
    loaded.logits_for(GaussianDenoiser({"": torch.zeros(1, 8, 8)}))
    with pytest.raises(ModelError, match="images of another shape"):
        loaded.logits_for(GaussianDenoiser({"": torch.zeros(shape)}))


def test_an_incomplete_classifier_is_refused(tmp_path: Path) -> None:
    saved_classifier(tmp_path)
    card = card_of(tmp_path)
    for broken in ({**card, "labels": NAMES[:5]}, {k: card[k] for k in card if k != "shape"}):
        (tmp_path / loading.CARD).write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(ModelError, match="cannot open the classifier"):
            noisy_classifier.load(str(tmp_path))
    (tmp_path / CHECKPOINT).write_bytes(b"")
    (tmp_path / loading.CARD).write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ModelError, match="cannot open the classifier"):
        noisy_classifier.load(str(tmp_path))


class Threshold(NoisyClassifier):
    """Classifier of class 0 where the signal exceeds the noise, and class 1 elsewhere."""

    def forward(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.stack([alpha, sigma], dim=1)


def test_accuracies_are_of_the_fifths_of_the_levels_from_little_noise_to_much() -> None:
    guided = GaussianDenoiser({"": torch.zeros(1, 4, 4)}, schedule=NoiseSchedule.linear())
    right = guided.schedule.alpha > guided.schedule.sigma
    share = right.reshape(noisy_trainer.NOISE_RANGES, -1).mean(axis=1)
    images, labels = torch.zeros(400, 1, 4, 4), torch.zeros(400, dtype=torch.long)
    found = noisy_trainer.accuracies(Threshold(2, 1, (8,)), guided, images, labels)
    assert found[0] == share[0] == 1.0
    assert found[-1] == share[-1] == 0.0
    np.testing.assert_allclose(found, share, atol=4 * 0.5 / 400**0.5)
    # of the other class the other way round
    other = noisy_trainer.accuracies(Threshold(2, 1, (8,)), guided, images, labels + 1)
    np.testing.assert_allclose(np.add(found, other), 1.0, atol=1e-6)


def test_a_classifier_of_another_shape_cannot_be_fine_tuned(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_classifier(tmp_path / "noisy")
    wider = replace(NOISY, widths=(8, 8))
    monkeypatch.setitem(recipe_table.NOISY_RECIPES, "digits", wider)  # type: ignore[misc]
    assert run(tmp_path, "--lead", str(model), "--init", str(tmp_path / "noisy")) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--init names a model of another shape" in message


def test_fine_tuning_does_not_resume_with_another_initial_classifier(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(loop: Loop) -> float:
        raise KeyboardInterrupt

    saved_classifier(tmp_path / "one")
    saved_classifier(tmp_path / "other")
    other = untrained_classifier(seed=1)
    noisy_classifier.save(other, tmp_path / "other")
    monkeypatch.setattr(Loop, "_one_step", stopped)
    lead = ("--lead", str(model))
    assert run(tmp_path, *lead, "--init", str(tmp_path / "one")) == 130
    assert run(tmp_path, *lead, "--init", str(tmp_path / "other")) == 2
    assert "training with another recipe" in capsys.readouterr().err


def test_a_training_resumes_with_the_weights_of_its_lead_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(loop: Loop) -> float:
        raise KeyboardInterrupt

    recipe = PixelRecipe(image_size=8, widths=(8, 16))
    unet, lead = build_unet(recipe, 10), tmp_path / "lead"
    pixel_diffusion.save(unet, None, recipe, lead)
    (lead / loading.CARD).write_text(json.dumps({"name": "lead", "labels": list(NAMES)}))
    monkeypatch.setattr(Loop, "_one_step", stopped)
    assert run(tmp_path, "--lead", str(lead)) == 130
    assert run(tmp_path, "--lead", str(lead)) == 130  # it resumes
    with torch.no_grad():
        next(unet.parameters()).add_(1)
    pixel_diffusion.save(unet, None, recipe, lead)
    capsys.readouterr()
    assert run(tmp_path, "--lead", str(lead)) == 2
    message = capsys.readouterr().err
    assert "--lead: the model's weights are not those" in message and message.count("\n") == 1
    # a training of an earlier version, whose plan does not name the weights, resumes
    (plan,) = tmp_path.glob("noisy-*/training/recipe.json")
    stored = json.loads(plan.read_text(encoding="utf-8"))
    assert len(stored.pop("trained_with_revision")) == 16
    plan.write_text(json.dumps(stored), encoding="utf-8")
    assert run(tmp_path, "--lead", str(lead)) == 130
