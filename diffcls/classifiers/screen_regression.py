"""Regression of a learned screen: predicts errors of all classes from features of the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from diffcls.classifiers.screen_measurement import Floats
from diffcls.search.error_prediction import CLASS_LAYERS, IMAGE_LAYERS, FeatureProjection
from diffcls.support.cache import Arrays
from diffcls.support.seeding import key
from diffcls.support.types import Int64

IMAGE_COMPONENTS = 300
"""Principal components of the features."""
HIDDEN, RANK = 512, 64
INPUT_DROPOUT, IMAGE_DROPOUT, CLASS_DROPOUT = 0.3, 0.2, 0.5
"""Of the features, and of the hidden layers of images and of classes."""
EPOCHS, IMAGES_PER_STEP = 60, 32
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-3
WEIGHT_SCALE, MAX_WEIGHT = 0.5, 20.0
"""A class of error e, in standard deviations, weighs exp(−e / scale): low errors matter."""


@dataclass(frozen=True)
class Measured:
    """Errors of some classes of N images on D draws.

    Args:
        classes: (N, S) their indices.
        errors: (N, S, D).
        random: number of the first classes of each image that were chosen at random.
    """

    classes: Int64
    errors: Floats
    random: int

    def centred(self) -> tuple[Floats, Floats]:
        """(N, S, D) errors in standard deviations around each image's mean; and (D,) these."""
        chosen = self.errors[:, : self.random]
        centre = chosen.mean(axis=1, keepdims=True)
        unit = (chosen - centre).std(axis=(0, 1)) + np.float32(1e-12)
        return (self.errors - centre) / unit, unit


class _Predictor(nn.Module):
    """The trained part of `diffcls.search.error_prediction.ErrorPredictor`."""

    def __init__(self, inputs: int, components: int, draws: int) -> None:
        super().__init__()
        self.image = _perceptron(inputs, draws * RANK, INPUT_DROPOUT, IMAGE_DROPOUT)
        self.classes = _perceptron(components, RANK, 0.0, CLASS_DROPOUT)
        self.offset = nn.Linear(RANK, draws)
        self.beta = nn.Parameter(torch.full((draws,), 0.3))

    def forward(self, inputs: Tensor, components: Tensor, slopes: Tensor) -> Tensor:
        """(B, D, K) errors of inputs (B, C), components (K, C'), slopes (B, D, K)."""
        embedding = self.classes(components)
        draws = len(self.beta)
        factors = self.image(inputs).reshape(len(inputs), draws, RANK) / RANK**0.5
        predicted: Tensor = factors @ embedding.T + self.offset(embedding).T
        return predicted + self.beta[:, None] * slopes


def _perceptron(inputs: int, outputs: int, dropout: float, hidden: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(inputs, HIDDEN),
        nn.GELU(),
        nn.Dropout(hidden),
        nn.Linear(HIDDEN, outputs),
    )


def train(
    features: Floats, slopes: Floats, components: Floats, measured: Measured, seed: int
) -> Arrays:
    """Fit the regression; the arrays of `diffcls.search.error_prediction.ErrorPredictor`.

    Args:
        features: (N, F) of the images.
        slopes: (N, D, K) first-order errors less the error at the mean prompt.
        components: (K, C) principal components of the classes' embeddings.
        measured: errors of some classes of each image.
        seed: of the weights and the order of images.
    """
    targets, unit = measured.centred()
    project = FeatureProjection.of(features, IMAGE_COMPONENTS)
    inputs = torch.from_numpy(project(features))
    with torch.random.fork_rng(devices=[]):  # weights and dropout use the global generator
        torch.manual_seed(key("learned screen", seed))
        model = _Predictor(inputs.shape[1], components.shape[1], len(unit))
        _minimise(
            model,
            inputs,
            torch.from_numpy(components),
            torch.from_numpy(slopes / unit[:, None]),
            torch.from_numpy(measured.classes),
            torch.from_numpy(targets),
            measured.random,
        )
    return {
        "mean": project.mean,
        "scale": project.scale,
        "axes": project.axes,
        "unit": unit,
        "beta": model.beta.detach().numpy(),
        "offset_w": model.offset.weight.detach().numpy(),
        "offset_b": model.offset.bias.detach().numpy(),
        **_arrays(IMAGE_LAYERS, model.image),
        **_arrays(CLASS_LAYERS, model.classes),
    }


def _minimise(
    model: _Predictor,
    inputs: Tensor,
    components: Tensor,
    slopes: Tensor,
    classes: Tensor,
    targets: Tensor,
    random: int,
) -> None:
    """Adam (Kingma and Ba 2015) on the weighted squared error of differences within an image."""
    steps = EPOCHS * -(-len(inputs) // IMAGES_PER_STEP)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    weight = torch.exp(-targets.mean(dim=2, keepdim=True) / WEIGHT_SCALE).clamp(max=MAX_WEIGHT)
    model.train()
    for rows in _steps(len(inputs)):
        every = model(inputs[rows], components, slopes[rows])
        index = classes[rows][:, None].expand(-1, targets.shape[2], -1)
        # (B, D, K) -> (B, S, D) of the measured classes
        predicted = every.gather(2, index).transpose(1, 2)
        # only differences between the classes of an image matter
        predicted = predicted - predicted[:, :random].mean(dim=1, keepdim=True)
        missed = (predicted - targets[rows]) ** 2 * weight[rows]
        loss = missed.sum() / (weight[rows].sum() * targets.shape[2])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def _steps(images: int) -> Iterator[Tensor]:
    for _ in range(EPOCHS):
        yield from torch.randperm(images).split(IMAGES_PER_STEP)


def _arrays(name: str, layers: nn.Sequential) -> Arrays:
    first, second = (layer for layer in layers if isinstance(layer, nn.Linear))
    return {
        f"{name}_w1": first.weight.detach().numpy(),
        f"{name}_b1": first.bias.detach().numpy(),
        f"{name}_w2": second.weight.detach().numpy(),
        f"{name}_b2": second.bias.detach().numpy(),
    }
