"""Class-head benchmark: errors on the scorer's draws, and independence of the heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.speed import class_heads_network
from diffcls.diffusion.draws import DrawPlan, nested_order
from diffcls.diffusion.timestep_allocation import allocate
from diffcls.models import loading
from diffcls.scoring.scorer import Scorer


@pytest.fixture(scope="module")
def digits() -> Any:
    return loading.load("digits")


class StandardHeads:
    """The interface of class heads, computed by the standard model once per class."""

    def __init__(self, denoiser: Any, prompts: list[str]) -> None:
        self.denoiser, self.cond = denoiser, denoiser.encode_prompts(prompts)

    def __call__(self, x_t: Tensor, index: Tensor) -> Tensor:
        outs = []
        for k in range(self.cond.count):
            rows = self.cond.rows(torch.full((len(x_t),), k))
            outs.append(self.denoiser.predict(x_t, index, rows))
        return torch.stack(outs, dim=1)


def test_errors_of_heads_are_the_scorers_on_the_same_draws(digits: Any) -> None:
    prompts = ["a photo of a handwritten digit 3.", "a photo of a handwritten digit 8."]
    x0 = torch.randn(3, *digits.sample_shape, generator=torch.Generator().manual_seed(0))
    draws = 4
    errors_of_heads = class_heads_network.table(StandardHeads(digits, prompts), digits, x0, draws)  # type: ignore[arg-type]
    indices = allocate(
        nested_order(len(digits.schedule), draws), digits.card.allocation, digits.schedule
    )
    scorer = Scorer(digits, digits.encode_prompts(prompts), DrawPlan(indices), batch_size=24)
    triples = [(i, k, j) for i in range(3) for k in range(2) for j in range(draws)]
    images, classes, columns = (list(column) for column in zip(*triples, strict=True))
    errors = scorer.errors(x0[images], torch.tensor(classes), columns)
    np.testing.assert_allclose(errors_of_heads.reshape(-1), errors.numpy(), rtol=1e-4)


def test_a_loss_on_one_class_trains_its_head_alone(digits: Any) -> None:
    torch.manual_seed(0)
    empty = digits.encode_prompts([""])["text"].clone()
    network = class_heads_network.MultiHead(digits.network, empty, 3).eval()
    x_t, index = torch.randn(2, *digits.sample_shape), torch.tensor([100, 700])
    out = network(x_t, index)
    assert out.shape == (2, 3, *digits.sample_shape)
    loss = out[:, 1].square().mean()
    loss.backward()
    last = network.heads[-1]
    per_class = last.weight.grad.reshape(3, -1).abs().sum(dim=1)
    assert per_class[1] > 0
    assert per_class[0] == per_class[2] == 0
    # and the standard model is not trained
    assert all(not p.requires_grad for p in digits.network.parameters())
