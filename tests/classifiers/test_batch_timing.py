"""Timing of a forward pass, by a clock that the model moves on: no real time is asserted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffcls.classifiers import batch_timing
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.search.exhaustive import Exhaustive

SIZE = 32
MEANS = {name: torch.full((3, 4, 4), value) for name, value in (("a", -0.5), ("b", 0.5))}


class Timed(GaussianDenoiser):
    """A denoiser that takes `of_row` seconds per row on its own clock."""

    now, of_row = 0.0, 0.0

    def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
        self.now += len(x_t) * self.of_row
        self.passes.append(len(x_t))
        return super().predict(x_t, index, cond)

    def __init__(self) -> None:
        super().__init__(MEANS)
        self.passes: list[int] = []


@pytest.mark.parametrize(
    ("of_row", "passes"),
    [
        (0.001, [1, SIZE, SIZE]),  # the second one warms up
        (0.05, [1, SIZE, SIZE]),
        (0.3, [1, 7]),
        (8.0, [1]),
    ],
)
def test_no_more_rows_are_timed_than_take_two_seconds(
    monkeypatch: pytest.MonkeyPatch, of_row: float, passes: list[int]
) -> None:
    model = Timed()
    model.of_row = of_row
    monkeypatch.setattr(batch_timing, "time", SimpleNamespace(perf_counter=lambda: model.now))
    prompts = PromptSet.from_templates(list(MEANS), ["{}"])
    method = DiffusionMethod(model, prompts, Exhaustive(4), batch_size=SIZE)
    assert method.seconds_per_batch() == pytest.approx(SIZE * of_row)
    assert model.passes == passes and method.batch_size == SIZE
