"""Published stages: the method equals a naive implementation with the library's scheduler."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.library_pipelines import (
    IDS,
    WORDS,
    chain_of,
    encoded_by_hand,
    folders,
    is_flow,
    latents_by_hand,
    model,
    output_by_hand,
    pipe,
)
from helpers.tiny_families import FAMILIES, each
from PIL import Image
from safetensors.torch import save_file

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.scoring.scoring import Scoring
from diffcls.search.paper import Paper

__all__ = ["folders", "model", "pipe"]  # fixtures

T = 1000
SAMPLES, KEEP = (2, 5, 10), (2, 2, 1)
GRID = list(range(T // 10 // 2, T, T // 10))  # 50, 150, …, 950


def stages() -> list[list[int]]:
    """Timesteps that each stage adds, from the text of the published protocol."""
    seen: list[int] = []
    added = []
    for n in SAMPLES:
        step = len(GRID) // n
        fresh = [t for t in GRID[step // 2 :: step][:n] if t not in seen]
        seen += fresh
        added.append(fresh)
    return added


def noise_residual(pipe: Any, x0: Any, eps: Any, index: int, cond: Any) -> Any:
    """Residual of the noise that the network's native output implies."""
    if is_flow(pipe):
        sigma = (index + 0.5) / T
        x_t = (1 - sigma) * x0 + sigma * eps
        result = x_t + (1 - sigma) * output_by_hand(pipe, x_t, 1000 * sigma, cond)
    else:
        scheduler = chain_of(pipe)
        x_t = scheduler.add_noise(x0, eps, torch.tensor([index]))
        result = output_by_hand(pipe, x_t, index, cond)
        if scheduler.config.prediction_type == "v_prediction":
            bar = scheduler.alphas_cumprod[index]
            result = bar.sqrt() * result + (1 - bar).sqrt() * x_t
    return result - eps


def classify_naively(
    residual: Callable[[int, int, int], Any], classes: int, loss: str
) -> tuple[int, dict[int, list[float]]]:
    """One image, one class, one timestep at a time: the winner, and the errors of each class."""
    alive = list(range(classes))
    errors: dict[int, list[float]] = {k: [] for k in alive}
    draw = 0
    for timesteps, keep in zip(stages(), KEEP, strict=True):
        for k in alive:
            for j, t in enumerate(timesteps):
                d = residual(k, draw + j, t)
                errors[k].append(float((d.abs() if loss == "l1" else d**2).mean()))
        draw += len(timesteps)
        alive = sorted(alive, key=lambda k: np.mean(errors[k]))[:keep]
    return alive[0], errors


def test_stages_are_the_published_ones() -> None:
    assert stages() == [[250, 750], [150, 350, 550, 950], [50, 450, 650, 850]]


@pytest.mark.parametrize("name", each(FAMILIES))
@torch.inference_mode()
def test_paper_equals_the_naive_implementation(
    name: str, model: Any, pipe: Any, tmp_path: Path
) -> None:
    prompts = WORDS if model.labels is None else IDS
    rng = torch.Generator().manual_seed(5)
    noise = torch.randn(20, *model.sample_shape, generator=rng)
    path = tmp_path / "noise.safetensors"
    save_file({"noise": noise}, path)
    shape = (2, model.image_size, model.image_size, 3)
    arrays = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    items = [Item(str(i), 0, lambda a=a: Image.fromarray(a)) for i, a in enumerate(arrays)]  # type: ignore[misc]
    pixels = torch.tensor(arrays.transpose(0, 3, 1, 2) / 127.5 - 1, dtype=torch.float32)
    latents = [latents_by_hand(pipe, x[None]) for x in pixels]
    conditions = [encoded_by_hand(pipe, [prompt]) for prompt in prompts]

    @cache
    def residual(image: int, k: int, draw: int, t: int) -> Any:
        return noise_residual(pipe, latents[image], noise[draw][None], t, conditions[k])

    for loss in ("l1", "l2"):
        method = DiffusionMethod(
            model,
            PromptSet(("a", "b", "c"), tuple(prompts), (0, 1, 2)),
            Paper(SAMPLES, KEEP),
            Scoring(loss),
            batch_size=8,
            noise_path=str(path),
            keep_errors=True,
        )
        answers = {answer.image_id: answer for answer in method.classify(items)}
        for i in range(len(items)):
            winner, errors = classify_naively(partial(residual, i), len(prompts), loss)
            result = answers[str(i)]
            assert result.ranking[0] == winner
            assert result.errors is not None
            for k, mine in enumerate(result.errors):
                evaluated = mine[~np.isnan(mine)]
                np.testing.assert_allclose(evaluated, errors[k], rtol=1e-5, atol=1e-6)
                assert np.mean(evaluated) == pytest.approx(np.mean(errors[k]), rel=1e-5)
            assert result.evaluations == sum(map(len, errors.values()))
