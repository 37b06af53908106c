"""Supervised training of a small image classifier, with early stopping on validation images."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diffcls.models.resnet import SmallResNet, predict
from diffcls.support.seeding import key
from diffcls.training.augmentation import augment
from diffcls.training.loop import EarlyStopping, Loop, Phase, generator
from diffcls.training.recipes import EXECUTION, Augmentation, Optimisation

TRAINING_VERSION = 2
"""Part of a fitted classifier's key; it rises when the same settings give other weights."""


@dataclass(frozen=True, kw_only=True)
class Supervised(Optimisation):
    """Recipe of the classifier; `images` bounds it, early stopping usually ends it sooner.

    Args:
        eval_every: training images between two evaluations on the validation images.
        evals_without_improvement: evaluations without improvement after which training ends.
    """

    learning_rate: float = 2e-3
    decay: str = "constant"
    ema: float = 0.995
    weight_decay: float = 0.02
    eval_every: int = 16_000
    evals_without_improvement: int = 6


@dataclass(frozen=True)
class TrainedClassifier:
    """Weights of a trained classifier.

    Args:
        weights: state dict, name -> array.
        accuracy: on the validation images that early stopping used, 0 to 1.
        images: training images seen when it reached that accuracy.
    """

    weights: dict[str, NDArray[np.float32]]
    accuracy: float
    images: int


def train_classifier(
    images: Tensor,
    labels: Tensor,
    validation: tuple[Tensor, Tensor],
    classes: int,
    recipe: Supervised,
    augmentation: Augmentation,
    seed: int,
    quiet: bool = True,
) -> TrainedClassifier:
    """The averaged weights with the highest accuracy on the validation images.

    Args:
        images: (N, 3, H, W) in [−1, 1].
        labels: (N,) class indices.
        validation: images and labels, likewise.
        classes: K.
        recipe: see `Supervised`.
        augmentation: applied to every training image each time it is seen.
        seed: seed of the initial weights and the batches.
        quiet: whether no progress is shown.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key("classifier", seed))
        model = SmallResNet(classes)

    def loss(step: int) -> Tensor:
        rng = generator("classifier", seed, step)
        rows = torch.randint(len(images), (recipe.batch,), generator=rng)
        return F.cross_entropy(model(augment(images[rows], augmentation, rng)), labels[rows])

    def measure(batches: int) -> dict[str, float]:
        correct = predict(model, validation[0]).argmax(dim=1) == validation[1]
        return {"accuracy": float(correct.float().mean())}

    stopping = EarlyStopping(
        "accuracy", max(1, recipe.eval_every // recipe.batch), recipe.evals_without_improvement
    )
    phase = Phase("classifier", {"classifier": model}, loss, recipe)
    loop = Loop(phase, None, quiet=quiet, early_stopping=stopping)
    loop.run(measure)
    weights = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    return TrainedClassifier(weights, loop.best_value, loop.best_step * recipe.batch)


def restore(weights: dict[str, NDArray[np.float32]], classes: int) -> SmallResNet:
    """A classifier with stored weights, in evaluation mode."""
    model = SmallResNet(classes)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model.eval()


def describe(recipe: Supervised, augmentation: Augmentation) -> dict[str, object]:
    """Everything of the training that decides its result, in plain JSON types."""
    fields = asdict(recipe)
    for name, default in EXECUTION.items():
        if fields[name] == default:  # as in fingerprints of versions without the field
            del fields[name]
    return {
        "training_version": TRAINING_VERSION,
        "recipe": {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()},
        "augmentation": asdict(augmentation),
    }
