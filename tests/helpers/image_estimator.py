"""Estimators of scikit-learn on an analytic model: a Gaussian about one mean image per prompt."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcls import DiffusionClassifier
from diffcls.models import loading
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.support.seeding import key

SIDE = 4
OPTIONS: dict[str, Any] = {"model": "digits", "search": "exhaustive", "draws": 2}


class AnyPrompt(GaussianDenoiser):
    """A Gaussian about a mean image of its own for every prompt, keyed by the text."""

    def __init__(self) -> None:
        super().__init__({"": torch.zeros(3, SIDE, SIDE)}, scale=0.3)

    def encode_prompts(self, prompts: Any) -> Conditioning:
        """The means (P, C, h, w)."""
        return Conditioning({"mean": torch.stack([self._mean(text) for text in prompts])})

    def _mean(self, text: str) -> Tensor:
        return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(key(text))) - 0.5


def use_analytic_model(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Load `AnyPrompt` for every name; the arguments of each load are appended to the result."""
    model, calls = AnyPrompt(), list[tuple[Any, ...]]()

    def load(*given: Any) -> AnyPrompt:
        calls.append(given)
        return model

    monkeypatch.setattr(loading, "load", load)
    return calls


def as_images(table: Any) -> Any:
    """Gray images (n, side, side) in 0 to 1 of a table (n, m), m at most side²; others stay."""
    if getattr(table, "ndim", 2) != 2 or hasattr(table, "tocsr"):
        return table
    rows = np.asarray(table)
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype.kind == "c":
        return table
    rows = rows.astype(np.float64)
    side = max(2, math.isqrt(rows.shape[1] - 1) + 1)
    padded = np.zeros((len(rows), side * side))
    squashed = np.where(np.isfinite(rows), 0.5 + np.arctan(rows) / np.pi, rows)
    padded[:, : rows.shape[1]] = squashed
    return padded.reshape(-1, side, side)


class TableClassifier(DiffusionClassifier):
    """An estimator of gray images from tables of numbers, for checks whose data are tables.

    A row of m numbers is an image of m pixels in a square, its values squashed into 0 to 1.
    """

    def _scores(self, X: Any) -> np.ndarray:
        return super()._scores(as_images(X))

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TableClassifier:
        super().fit(as_images(X), y, sample_weight)
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return super().score(as_images(X), y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = False
        tags.input_tags.two_d_array = True
        tags.input_tags.string = False
        tags.classifier_tags.poor_score = True  # its prompts say nothing of the tables
        return tags
