"""Batches of many images: full, overlapping, speculative, and halved without loss on OOM."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.log_messages import own_messages
from PIL import Image

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import to_image
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring import batches
from diffcls.scoring.batch_size import is_out_of_memory
from diffcls.search.base import Search
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.gradient import Gradient
from diffcls.search.halving import Halving
from diffcls.search.paper import Paper
from diffcls.search.racing import Racing
from diffcls.support.errors import ModelError

K = 8
RNG = np.random.default_rng(4)
MEANS = {f"class {k}": torch.tensor(RNG.uniform(-0.9, 0.9, (3, 4, 4))).float() for k in range(K)}


class Small(GaussianDenoiser):
    """A device with memory for a number of rows."""

    rows = 5
    asked = 0

    def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
        self.asked += 1
        if len(x_t) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")
        return super().predict(x_t, index, cond)


class Ahead(GaussianDenoiser):
    """Records the number of rows of each forward pass."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked = 0

    def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
        self.asked += 1
        return super().predict(x_t, index, cond)


def items(count: int) -> list[Item]:
    def picture(i: int) -> Image.Image:
        mean = MEANS[f"class {i % K}"].numpy()
        return to_image(mean + np.random.default_rng(i).normal(0, 0.2, mean.shape))

    return [Item(f"test/{i}", i % K, lambda i=i: picture(i)) for i in range(count)]  # type: ignore[misc]


def method(kind: type[GaussianDenoiser], search: Search, batch_size: int = 32) -> DiffusionMethod:
    prompts = PromptSet.from_templates(list(MEANS), ["{}"])
    return DiffusionMethod(kind(MEANS, 0.2), prompts, search, batch_size=batch_size, encode_batch=4)


@pytest.mark.parametrize("search", [Exhaustive(6), Racing(12), Gradient(12, candidates=3)])
def test_out_of_memory_halves_the_batch_and_loses_nothing(
    search: Search, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        small = method(Small, search)
        result = {a.image_id: a for a in small.classify(items(13))}
    whole = {a.image_id: a for a in method(GaussianDenoiser, search, 4).classify(items(13))}
    assert small.batch_size == 4
    assert [message[-2:] for message in own_messages(caplog)] == ["16", " 8", " 4"]
    assert result.keys() == whole.keys() and len(result) == 13
    for image_id, answer in result.items():
        assert np.array_equal(answer.scores, whole[image_id].scores)
        assert answer.evaluations == whole[image_id].evaluations


def test_lack_of_memory_for_one_row_is_an_error() -> None:
    class None_(Small):
        rows = 0

    with pytest.raises(ModelError, match="out of memory for a single evaluation"):
        list(method(None_, Racing(5)).classify(items(2)))


def test_other_errors_are_not_treated_as_lack_of_memory() -> None:
    class Broken(GaussianDenoiser):
        def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(method(Broken, Racing(5)).classify(items(2)))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))


@pytest.mark.parametrize("search", [Exhaustive(6), Racing(12), Gradient(12, candidates=3)])
def test_overlapping_batches_change_no_result(search: Search) -> None:
    plain, ahead = method(GaussianDenoiser, search), method(GaussianDenoiser, search)
    ahead._runner.overlaps = True
    one = {a.image_id: a for a in plain.classify(items(29))}
    two = {a.image_id: a for a in ahead.classify(items(29))}
    assert one.keys() == two.keys()
    for image_id, answer in one.items():
        assert np.array_equal(answer.scores, two[image_id].scores)
        assert answer.evaluations == two[image_id].evaluations


def test_batches_are_full_until_images_run_out() -> None:
    model = Ahead(MEANS, 0.2)
    prompts = PromptSet.from_templates(list(MEANS), ["{}"])
    racing = DiffusionMethod(model, prompts, Racing(12), batch_size=16, encode_batch=4)
    before = model.asked
    total = sum(a.evaluations for a in racing.classify(items(200)))
    forwards = model.asked - before
    # all but the last few, when no image is left to fill them
    assert total / (16 * forwards) > 0.97


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize(
    ("search", "options"),
    [
        (Racing(12), {}),
        (Racing(12), {"aggregate": "prompts"}),
        (Racing(12), {"vote": "rank"}),
        (Racing(12, budget=40), {}),
        (Halving(12, start=2), {}),
        (Paper((3, 12), (4, 1)), {}),
        (Gradient(12, candidates=5), {}),
    ],
)
def test_speculative_evaluations_in_free_rows_change_no_result(
    search: Search,
    options: dict[str, str],
    overlaps: bool,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forwards, result = [], []
    for speculate in (batches.speculate, lambda images, free_rows: []):
        monkeypatch.setattr(batches, "speculate", speculate)
        model = Ahead({**MEANS, **{f"a {name}": 0.9 * mean for name, mean in MEANS.items()}}, 0.2)
        prompts = PromptSet.from_templates(list(MEANS), ["{}", "a {}"])
        built = DiffusionMethod(model, prompts, search, batch_size=64, encode_batch=4, **options)
        built._runner.overlaps = overlaps
        result.append({a.image_id: a for a in built.classify(items(count))})
        forwards.append(model.asked)
    mine, plain = result
    for image_id, answer in plain.items():
        assert np.array_equal(mine[image_id].scores, answer.scores)
        assert mine[image_id].evaluations == answer.evaluations
    assert forwards[0] <= forwards[1]
    if count == 1 and "vote" not in options:  # by ranks the race ends in its first round
        assert forwards[0] < forwards[1]


def test_speculation_covers_candidates_of_an_image_and_the_empty_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = []
    for speculate in (batches.speculate, lambda images, free_rows: []):
        monkeypatch.setattr(batches, "speculate", speculate)
        prompts = PromptSet.from_templates(list(MEANS), ["{}"], asked=3)
        means = {**MEANS, "": torch.zeros(3, 4, 4)}
        built = DiffusionMethod(GaussianDenoiser(means, 0.2), prompts, Racing(12), encode_batch=4)
        asked = [replace(item, candidates=(item.label, 2, 5)) for item in items(2)]
        result.append([(a.scores.tolist(), a.evaluations) for a in built.classify(asked)])
    assert result[0] == result[1] and len(result[0]) == 2


def test_speculative_work_lost_to_lack_of_memory_is_repeated() -> None:
    small, fits = method(Small, Racing(12)), method(Ahead, Racing(12), 4)
    (mine,) = small.classify(items(1))
    (theirs,) = fits.classify(items(1))
    assert np.array_equal(mine.scores, theirs.scores) and mine.evaluations == theirs.evaluations
    tried = 3  # at 32, 16 and 8 rows there was no memory
    assert small.denoiser.asked - tried == fits.denoiser.asked  # type: ignore[attr-defined]


def test_speculative_results_may_be_not_finite() -> None:
    class Late(GaussianDenoiser):
        """Overflows at the last draw, which an easy image does not request."""

        dtype = torch.float16
        last = -1

        def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
            out = super().predict(x_t, index, cond)
            return torch.where((index == self.last).view(-1, 1, 1, 1), torch.nan, out)

        def float32(self) -> Any:
            raise AssertionError("a whole network in single precision, for what nobody asked for")

    built = method(Late, Racing(12), batch_size=128)
    built.denoiser.last = int(built.plan.indices[-1])  # type: ignore[attr-defined]
    (answer,) = built.classify(items(1))
    assert answer.error is None and answer.ranking[0] == 0 and answer.evaluations < K * 12
