"""Rotation of templates: one template per draw for all classes, at the cost of one template."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.answers import assert_independent_of_batches, by_id, table
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.search_options import most_evaluations
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import to_image
from diffcls.diffusion.draws import nested_order, rotation
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.search.base import Search
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.racing import Racing
from diffcls.support.errors import UsageError

K, SHAPE, DRAWS = 4, (3, 4, 4), 10
NAMES = [f"class {k}" for k in range(K)]
TEMPLATES = ["{}", "no {}", "a {}"]
RNG = np.random.default_rng(2)
TEXTS = [template.replace("{}", name) for name in NAMES for template in TEMPLATES]
MEANS = {text: torch.tensor(RNG.uniform(-0.5, 0.5, SHAPE)).float() for text in TEXTS}


def picture(i: int) -> Image.Image:
    noise = np.random.default_rng(i).normal(0, 0.2, SHAPE)
    return to_image(MEANS[NAMES[i % K]].double().numpy() + noise)


def items(count: int) -> list[Item]:
    return [Item(f"test/{i}", i % K, lambda i=i: picture(i)) for i in range(count)]  # type: ignore[misc]


def method(
    templates: list[str], search: Search, aggregate: str = "rotate", means: Any = MEANS
) -> DiffusionMethod:
    prompts = PromptSet.from_templates(NAMES, templates)
    if len(templates) == 1:
        aggregate = "classes"
    model = GaussianDenoiser(means, 0.2)
    return DiffusionMethod(
        model, prompts, search, batch_size=16, keep_errors=True, aggregate=aggregate
    )


@given(st.integers(1, 90), st.integers(1, 200), st.integers(0, 9))
def test_every_block_of_draws_has_each_template_once(templates: int, draws: int, seed: int) -> None:
    turn = rotation(templates, draws, seed)
    assert len(turn) == draws
    for start in range(0, draws - templates + 1, templates):
        assert sorted(turn[start : start + templates]) == list(range(templates))
    # fewer draws are a prefix of more
    assert np.array_equal(rotation(templates, draws + 5, seed)[:draws], turn)


def test_templates_do_not_go_with_timesteps() -> None:
    """Two templates in turn would be the earlier and the later half of time."""
    draws = 200
    late = nested_order(1000, draws) >= 500
    assert abs(np.corrcoef(np.arange(draws) % 2, late)[0, 1]) > 0.98
    assert abs(np.corrcoef(rotation(2, draws, 0), late)[0, 1]) < 0.2


def test_each_draw_has_the_error_of_its_template() -> None:
    search = Exhaustive(DRAWS)
    turned = method(TEMPLATES, search)
    turn = rotation(len(TEMPLATES), DRAWS, 0)
    single = [by_id(method([t], search).classify(items(5))) for t in TEMPLATES]
    for image_id, answer in by_id(turned.classify(items(5))).items():
        assert answer.evaluations == K * DRAWS
        tables = np.stack([table(one[image_id]) for one in single])
        expected = tables[turn, :, np.arange(DRAWS)].T
        assert table(answer) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("search", [Exhaustive(DRAWS), Racing(DRAWS)], ids=repr)
def test_rotation_of_equal_templates_is_their_average(search: Search) -> None:
    means = {text: MEANS[NAMES[i // len(TEMPLATES)]] for i, text in enumerate(TEXTS)}
    turned = by_id(method(TEMPLATES, search, means=means).classify(items(8)))
    every = by_id(method(TEMPLATES, search, "classes", means).classify(items(8)))
    for image_id, answer in turned.items():
        assert answer.scores == pytest.approx(every[image_id].scores, abs=1e-6)
        assert answer.evaluations * len(TEMPLATES) == every[image_id].evaluations


def test_maximum_cost_is_that_of_one_template() -> None:
    prompts = PromptSet.from_templates(NAMES, TEMPLATES)
    for search in (Racing(DRAWS), Exhaustive(DRAWS)):
        assert most_evaluations(search, prompts, "rotate") == K * DRAWS


def test_answers_do_not_depend_on_the_batch() -> None:
    assert_independent_of_batches(method(TEMPLATES, Racing(20)), items(18))


def test_prompts_that_are_no_templates_are_refused() -> None:
    uneven = PromptSet(("a", "b"), tuple(TEXTS[:3]), (0, 0, 1))
    model = GaussianDenoiser(MEANS, 0.2)
    with pytest.raises(UsageError, match=r"as many prompts for each class.*1 to 2 prompts"):
        DiffusionMethod(model, uneven, Racing(4), aggregate="rotate")
    with pytest.raises(UsageError, match="rotate needs several prompts"):
        DiffusionMethod(
            model, PromptSet.from_templates(NAMES, ["{}"]), Racing(4), aggregate="rotate"
        )
