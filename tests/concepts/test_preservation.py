"""Preservation: other classes' outputs stay as they are while a LoRA learns a concept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffcls.concepts import preservation
from diffcls.concepts.dreambooth import add_adapter
from diffcls.concepts.images import in_memory
from diffcls.concepts.learn import learn
from diffcls.concepts.options import ConceptSettings
from diffcls.concepts.posterior_draws import drawn
from diffcls.concepts.preservation import DISTILLATION, Distillation, classes_of, frozen_prompts
from diffcls.concepts.separation import MARGIN, SOFTNESS, Separation
from diffcls.concepts.task import LearningTask
from diffcls.data.dataset import Item
from diffcls.data.load import load_dataset
from diffcls.data.transforms import load_image
from diffcls.models import loading
from diffcls.training.loop import generator

TOKEN = "<mine>"
OTHERS = ("two", "zero", "five")
SETTINGS = ConceptSettings(
    name=TOKEN,
    init="three",
    method="dreambooth",
    against=OTHERS,
    rank=4,
    batch_size=8,
    prior_images=8,
)


@pytest.fixture
def model() -> Any:
    return loading.load("digits")


def rgb(item: Item) -> Image.Image:
    return load_image(item.open())


def encoded(model: Any, label: int, count: int) -> Tensor:
    """(N, C, h, w) latents of digits."""
    items = [item for item in load_dataset("digits", "train").items if item.label == label]
    return in_memory([partial(rgb, item) for item in items[:count]]).encode(model)


def outputs(model: Any, names: tuple[str, ...], x: Tensor) -> Tensor:
    """(K, N, C, h, w) of the prompts of classes at one timestep."""
    cond, at = model.encode_prompts([f"a photo of a {name}" for name in names]), len(model.schedule)
    index = torch.full((len(x),), at // 3)
    with torch.inference_mode():
        rows = [torch.full((len(x),), k) for k in range(len(names))]
        return torch.stack([model.predict(x, index, cond.rows(row)) for row in rows])


def test_distillation_is_the_squared_change_of_the_outputs(model: Any) -> None:
    x0 = encoded(model, 7, 4)
    task = LearningTask(model, TOKEN, x0, SETTINGS, ("a {}", "one {}"))
    add_adapter(model.network, SETTINGS)
    loss = Distillation(task, encoded(model, 2, 8))
    assert float(loss(generator("test", 0)).detach()) == 0.0  # B = 0: nothing has changed
    predict, outs = model.predict, []
    for name, parameter in model.network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05, generator=generator("test", 1))

    def recorded(x: Tensor, index: Tensor, cond: Any) -> Tensor:
        outs.append((x, index, predict(x, index, cond)))
        return outs[-1][2]

    model.predict = recorded
    value = loss(generator("test", 0))
    (x, index, before), (x_after, index_after, after) = outs
    assert torch.equal(x, x_after) and torch.equal(index, index_after)
    expected = DISTILLATION * (after - before).pow(2).sum() / after.numel()
    torch.testing.assert_close(value, expected)
    assert value > 0 and not before.requires_grad
    value.backward()
    assert all(p.grad is not None for n, p in model.network.named_parameters() if "lora_" in n)


def test_own_prompts_are_those_of_the_images_and_all_classes_are_named(model: Any) -> None:
    count = len(OTHERS)
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, *model.sample_shape)
    loss = Distillation(LearningTask(model, TOKEN, images[:2], SETTINGS, ("a {}",)), images)
    x0, classes = loss._choose(6000, generator("test", 2))
    right = classes == x0[:, 0, 0, 0].long() % count
    # 1/2 + 1/2 · 1/3 have their own
    assert abs(float(right.float().mean()) - 2 / 3) < 0.03
    wrong = Counter(classes[~right].tolist())
    assert set(wrong) == set(range(count))
    assert all(abs(n / wrong.total() - 1 / count) < 0.05 for n in wrong.values())


def test_separation_is_a_soft_hinge_of_the_posteriors_log_odds(model: Any) -> None:
    names = ("two", "zero")
    settings = replace(SETTINGS, against=names, batch_size=16)
    task = LearningTask(model, TOKEN, encoded(model, 7, 4), settings, ("a {}",))
    separation = Separation(task, frozen_prompts(task, ("seven",)))
    with torch.no_grad():
        value = float(separation(generator("test", 3)))
        rng = generator("test", 3)
        draws = drawn(model, task.x0, 16, 1, rng)
        torch.randint(1, (16,), generator=rng)  # the template
        which = torch.randint(2, (16,), generator=rng)
        alpha, sigma = (v.view(-1, 1, 1, 1) for v in (draws.levels.alpha, draws.levels.sigma))
        errors = []
        for texts in (["a seven"] * 16, [f"a {names[k]}" for k in which.tolist()]):
            out = model.predict(draws.x_t, draws.levels.index, model.encode_prompts(texts))
            noise = alpha * out + sigma * draws.x_t  # of v = α·ε − σ·x0
            errors.append((draws.noise - noise).square().flatten(1).mean(1))
    dimensions = float(np.prod(model.sample_shape))
    odds = dimensions / model.card.temperature * float((errors[1] - errors[0]).mean())
    expected = SOFTNESS / MARGIN * np.log1p(np.exp((MARGIN - odds) / SOFTNESS))
    assert odds > 0 and value == pytest.approx(float(expected), rel=1e-3)


def test_the_named_classes_are_preserved_and_else_that_of_the_concept() -> None:
    assert classes_of(SETTINGS) == OTHERS
    assert classes_of(replace(SETTINGS, against=("three", "two"))) == ("three", "two")
    assert classes_of(replace(SETTINGS, against=None)) == ("three",)


@pytest.mark.slow
def test_named_classes_change_far_less_than_without_distillation(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x0, digits = encoded(model, 7, 4), torch.cat([encoded(model, k, 4) for k in (5, 2, 0)])
    before, phrase = outputs(model, OTHERS, digits), f"{TOKEN} three"
    errors = outputs(model, (phrase,), x0)
    settings = replace(SETTINGS, steps=80, learning_rate=5e-3, prior_images=24)
    changes, own = {}, {}
    for weight in (0.0, DISTILLATION):
        monkeypatch.setattr(preservation, "DISTILLATION", weight)
        learned = learn(loading.load("digits"), settings, x0)
        after: Any = loading.load("digits")
        learned.add_to(after)
        changes[weight] = float((outputs(after, OTHERS, digits) - before).square().mean())
        own[weight] = float((outputs(after, (phrase,), x0) - errors).square().mean())
    assert changes[DISTILLATION] < changes[0.0] / 3
    assert own[DISTILLATION] > 3 * changes[DISTILLATION]  # what is learned is the concept
