"""The references: what labels, class means and chance reach."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

import diffcls
from diffcls.data import sources, specs
from diffcls.errors import UsageError
from diffcls.methods import labelled
from diffcls.methods.reference import build
from diffcls.options import EvaluationOptions
from diffcls.prompts import PromptSet
from diffcls.recipes import Augmentation
from diffcls.supervised import Supervised, restore, train_classifier

SPEC = specs.find("digits")


def method(kind: str, output: Path, seed: int = 0):  # type: ignore[no-untyped-def]
    options = EvaluationOptions(
        method=("reference",), reference=kind, output_dir=str(output), seed=seed
    )
    prompts = PromptSet.from_templates(tuple("0123456789"), ("{}",))
    return build(options, SPEC, prompts).method


def test_nearest_mean_is_scikit_learns_nearest_centroid(tmp_path: Path) -> None:
    train, test = (sources.load("digits", split) for split in ("train", "test"))
    pixels, labels = labelled.tensors(train, 32)
    shown, _ = labelled.tensors(test, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pixels that are always dark
        reference = NearestCentroid().fit(pixels.flatten(1).numpy(), labels.numpy())
    expected = reference.predict(shown.flatten(1).numpy())
    answers = {a.image_id: a for a in method("nearest-mean", tmp_path).classify(test.items)}
    found = [answers[item.image_id].ranking[0] for item in test.items]
    assert found == expected.tolist()


def test_chance_is_keyed_by_seed_and_image(tmp_path: Path) -> None:
    items = sources.load("digits", "train").items
    first = {a.image_id: a for a in method("chance", tmp_path).classify(items)}
    again = {a.image_id: a for a in method("chance", tmp_path).classify(items[::-1])}
    other = {a.image_id: a for a in method("chance", tmp_path, seed=1).classify(items)}
    assert all(np.array_equal(first[i].scores, again[i].scores) for i in first)
    same = np.mean([first[i].ranking[0] == other[i].ranking[0] for i in first])
    right = np.mean([first[item.image_id].ranking[0] == item.label for item in items])
    # a tenth, within three standard errors of 1,097 images
    assert abs(right - 0.1) < 0.028 and abs(same - 0.1) < 0.028


def halves(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy pictures, brighter on the left (0) or on the right (1)."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randn(count, 3, 16, 16, generator=rng) * 0.3
    images[labels == 0, :, :, :8] += 0.5
    images[labels == 1, :, :, 8:] += 0.5
    return images, labels


def test_classifier_learns_what_can_be_learned_and_repeats_itself() -> None:
    how = Supervised(images=4_000, batch=32, look=640, patience=2)
    learned, again = (
        train_classifier(*halves(64, 0), halves(64, 1), 2, how, Augmentation(), seed=3)
        for _ in range(2)
    )
    assert learned.accuracy == 1.0
    # the first look that was right ends it, after two more without a gain
    assert learned.images < how.images
    assert all(np.array_equal(learned.weights[k], again.weights[k]) for k in learned.weights)
    images, labels = halves(200, 2)
    with torch.inference_mode():
        found = restore(learned.weights, 2)(images).argmax(dim=1)
    assert float((found == labels).float().mean()) > 0.98


def test_weights_kept_are_those_of_the_best_look() -> None:
    how = Supervised(images=1_000, batch=32, look=96, patience=50)
    validation = halves(40, 1)
    learned = train_classifier(*halves(64, 0), validation, 2, how, Augmentation(), seed=3)
    with torch.inference_mode():
        found = restore(learned.weights, 2)(validation[0]).argmax(dim=1)
    assert float((found == validation[1]).float().mean()) == learned.accuracy


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"reference": "nearest"}, "unknown reference: 'nearest'.*nearest-mean"),
        ({"dataset": "scenes/pairs"}, "scenes/pairs has no images to learn from"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    wishes: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(method="reference", **wishes)


def test_rows_say_what_was_seen(tmp_path: Path) -> None:
    for kind, supervision in (("nearest-mean", "labels"), ("chance", "zero-shot")):
        (row,) = diffcls.run_evaluation(
            method="reference", reference=kind, limit=20, output_dir=str(tmp_path), quiet=True
        )
        assert (row["model"], row["supervision"], row["ece"]) == (kind, supervision, None)
