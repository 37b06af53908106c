"""Reference baselines: supervised classifier, nearest class mean and chance."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import NearestCentroid
from torch import Tensor, nn

import diffcls
from diffcls.classifiers import labelled_data, reference
from diffcls.classifiers.base import Method
from diffcls.classifiers.reference import build
from diffcls.data import catalog
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.options import EvaluationOptions
from diffcls.support.errors import UsageError
from diffcls.training import supervised
from diffcls.training.recipes import Augmentation
from diffcls.training.supervised import Supervised, TrainedClassifier, restore, train_classifier

SPEC = catalog.find("digits")


def method(kind: str, output: Path, seed: int = 0) -> Method:
    options = EvaluationOptions(
        method=("reference",), reference=kind, output_dir=str(output), seed=seed
    )
    prompts = PromptSet.from_templates(tuple("0123456789"), ("{}",))
    return build(options, SPEC, prompts).method


def test_nearest_mean_is_scikit_learns_nearest_centroid(tmp_path: Path) -> None:
    train, test = (load_dataset("digits", split) for split in ("train", "test"))
    pixels, labels = labelled_data.tensors(train, 32)
    shown, _ = labelled_data.tensors(test, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about constant pixels
        theirs = NearestCentroid().fit(pixels.flatten(1).numpy(), labels.numpy())
    expected = theirs.predict(shown.flatten(1).numpy())
    answers = {a.image_id: a for a in method("nearest-mean", tmp_path).classify(test.items)}
    result = [answers[item.image_id].ranking[0] for item in test.items]
    assert result == expected.tolist()


def test_class_without_images_is_never_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = (load_dataset("digits", split) for split in ("train", "test"))
    fewer = train.take([i for i, item in enumerate(train.items) if item.label != 3])
    monkeypatch.setattr(labelled_data, "load", lambda *_: fewer)
    answers = list(method("nearest-mean", tmp_path).classify(test.items))
    assert not any(answer.error for answer in answers)
    assert {answer.ranking[0] for answer in answers} == set(range(10)) - {3}
    assert {answer.ranking[-1] for answer in answers} == {3}


def test_chance_is_keyed_by_seed_and_image(tmp_path: Path) -> None:
    items = load_dataset("digits", "train").items
    first = {a.image_id: a for a in method("chance", tmp_path).classify(items)}
    again = {a.image_id: a for a in method("chance", tmp_path).classify(items[::-1])}
    other = {a.image_id: a for a in method("chance", tmp_path, seed=1).classify(items)}
    assert all(np.array_equal(first[i].scores, again[i].scores) for i in first)
    same = np.mean([first[i].ranking[0] == other[i].ranking[0] for i in first])
    right = np.mean([first[item.image_id].ranking[0] == item.label for item in items])
    # a tenth, within three standard errors of 1,097 images
    assert abs(right - 0.1) < 0.028 and abs(same - 0.1) < 0.028


def halves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy images, brighter on the left (0) or on the right (1)."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randn(count, 3, 8, 8, generator=rng) * 0.3
    images[labels == 0, :, :, :4] += 0.5
    images[labels == 1, :, :, 4:] += 0.5
    return images, labels


def learned(recipe: Supervised, seed: int = 3) -> TrainedClassifier:
    return train_classifier(*halves(64, 0), halves(40, 1), 2, recipe, Augmentation(), seed)


def test_classifier_learns_separable_classes() -> None:
    result = learned(Supervised(images=1_280, batch=32, eval_every=640))
    assert result.accuracy == 1.0
    images, labels = halves(200, 2)
    with torch.inference_mode():
        answers = restore(result.weights, 2)(images).argmax(dim=1)
    assert float((answers == labels).float().mean()) > 0.98


def test_weights_depend_on_the_seed_alone() -> None:
    recipe = Supervised(images=24, batch=8, eval_every=8)
    first = learned(recipe)
    torch.manual_seed(99)  # the global generator is not used
    again, other = learned(recipe), learned(recipe, seed=4)
    assert all(np.array_equal(first.weights[k], again.weights[k]) for k in first.weights)
    assert not np.array_equal(first.weights["stem.weight"], other.weights["stem.weight"])


def test_fewer_images_than_a_batch_are_evaluated_too() -> None:
    assert learned(Supervised(images=1, batch=8)).weights


@pytest.mark.parametrize(
    ("right", "patience", "evaluations", "best"),
    [
        ([3, 5, 5, 7, 6, 2], 6, 6, 4),  # the last evaluation is not the best one
        ([3, 5, 5, 7, 6, 2], 2, 6, 4),  # an improvement resets the count
        ([3, 5, 4, 2, 9, 9], 2, 4, 2),  # two without improvement end it
        ([3, 5, 5, 7, 9, 9], 1, 3, 2),  # an equal value is no improvement
    ],
)
def test_early_stopping_keeps_the_best_weights(
    monkeypatch: pytest.MonkeyPatch, right: list[int], patience: int, evaluations: int, best: int
) -> None:
    truth, seen = torch.zeros(10, dtype=torch.long), []

    def predict(model: nn.Module, images: Tensor) -> Tensor:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        # class 0, which is right, for as many images as the list says
        return torch.eye(2)[(torch.arange(10) >= right[len(seen) - 1]).long()]

    monkeypatch.setattr(supervised, "predict", predict)
    recipe = Supervised(images=6 * 8, batch=4, eval_every=8, evals_without_improvement=patience)
    result = train_classifier(
        *halves(16, 0), (halves(10, 1)[0], truth), 2, recipe, Augmentation(), 0
    )
    assert len(seen) == evaluations and result.images == best * 8
    assert result.accuracy == pytest.approx(right[best - 1] / 10)
    for i, weights in enumerate(seen, start=1):
        same = all(np.array_equal(result.weights[k], v) for k, v in weights.items())
        assert same == (i == best)


def test_command_trains_on_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 6)):
        for name, level in (("dark", 60), ("light", 190)):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(level, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    quick = partial(
        Supervised,
        batch=8,
        eval_every=64,
        evals_without_improvement=1,
        ema=0.9,
        learning_rate=2e-3,
    )
    monkeypatch.setattr(supervised, "Supervised", quick)
    monkeypatch.setattr(reference, "DEFAULT_TRAINING_IMAGES", 256)
    (row,) = diffcls.run_evaluation(
        dataset="stl10",
        data_root=str(tmp_path / "data"),
        method="reference",
        output_dir=str(tmp_path / "out"),
        quiet=True,
    )
    assert (row["n_scored"], row["accuracy"], row["supervision"]) == (12, 1.0, "labels")
    assert [path.name[:10] for path in (tmp_path / "out/fits").glob("*.npz")] == ["reference-"]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"reference": "nearest-man"}, "unknown reference.*did you mean 'nearest-mean'"),
        ({"model": "classifer"}, "unknown reference.*did you mean 'classifier'"),
        ({"dataset": "objectnet"}, "objectnet has no labelled images for training"),
        ({"dataset": "scenes/pairs"}, "scenes/pairs has no labelled images for training"),
    ],
)
def test_invalid_options_are_refused_before_data_are_read(
    wishes: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(method="reference", **wishes)


def test_rows_state_the_supervision(tmp_path: Path) -> None:
    for kind, supervision in (("nearest-mean", "labels"), ("chance", "zero-shot")):
        (row,) = diffcls.run_evaluation(
            method="reference", reference=kind, limit=20, output_dir=str(tmp_path), quiet=True
        )
        assert (row["model"], row["supervision"], row["ece"]) == (kind, supervision, None)
