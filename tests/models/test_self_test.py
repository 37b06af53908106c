"""Self-test: refuses a model that does not predict what it declares, and accepts any other."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.log_messages import own_messages
from PIL import Image
from torch import Tensor

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image, to_pixels
from diffcls.diffusion.parameterization import PARAMETERIZATIONS
from diffcls.evaluation.run import run_evaluation
from diffcls.models import loading
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.models.self_test import CHANCE, _often_less, check_model
from diffcls.search.exhaustive import Exhaustive
from diffcls.support.errors import DataError, ModelError

Pipelines = Callable[[str], Path]
NAMES = ["left", "right", "none"]
SHAPE = (3, 8, 8)


def means() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {name: torch.rand(SHAPE, generator=rng) * 2 - 1 for name in NAMES}


def pictures(count: int = 4) -> tuple[Tensor, list[str]]:
    rng = torch.Generator().manual_seed(1)
    prompts = [NAMES[i % 3] for i in range(count)]
    spread = 0.5 * torch.randn(count, *SHAPE, generator=rng)
    return torch.stack([means()[p] for p in prompts]) + spread, prompts


def digits(count: int = 4) -> tuple[Tensor, list[str]]:
    items = load_dataset("digits", "validation").items[:count]
    pixels = np.stack([to_pixels(load_image(item.open()), 32) for item in items])
    return torch.from_numpy(pixels), [f"a photo of a handwritten digit {i.label}." for i in items]


class Mislabelled(GaussianDenoiser):
    """Predicts one parameterization and declares another."""

    def __init__(self, true: str, declared: str) -> None:
        super().__init__(means(), prediction_type=true)
        self.true, self.parameterization = self.parameterization, PARAMETERIZATIONS[declared]

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        said, self.parameterization = self.parameterization, self.true
        out = super().predict(x_t, index, cond)
        self.parameterization = said
        return out


@pytest.mark.parametrize("declared", PARAMETERIZATIONS)
@pytest.mark.parametrize("true", PARAMETERIZATIONS)
def test_exact_model_is_refused_unless_it_predicts_what_it_declares(
    true: str, declared: str
) -> None:
    model = Mislabelled(true, declared)
    if declared == true:
        check_model(model, *pictures())
        return
    with pytest.raises(ModelError, match=f"'{declared}, with .*allowed: {true}, with"):
        check_model(model, *pictures())


@pytest.mark.parametrize("declared", PARAMETERIZATIONS)
def test_trained_model_is_refused_unless_it_predicts_what_it_declares(
    declared: str, caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = loading.load("digits")
    model.parameterization = PARAMETERIZATIONS[declared]
    if declared == "v_prediction":
        check_model(model, *digits())
        assert not own_messages(caplog)
        return
    with pytest.raises(ModelError, match="allowed: v_prediction, with"):
        check_model(model, *digits())


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_untrained_model_raises_a_warning(
    prediction_type: str, tiny_pipeline: Pipelines, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="diffcls"):
        check_model(loading.load(str(tiny_pipeline(prediction_type))), *digits())
    assert "looks untrained: on 4 images" in caplog.text


@pytest.mark.parametrize("first", range(0, 10, 2))
def test_two_images_are_enough_to_tell_that_a_model_is_trained(
    first: int, caplog: pytest.LogCaptureFixture
) -> None:
    images, prompts = digits(12)
    with caplog.at_level(logging.WARNING, logger="diffcls"):
        check_model(loading.load("digits"), images[first : first + 2], prompts[first : first + 2])
    assert not own_messages(caplog)


def test_two_images_are_enough_to_tell_that_a_model_is_untrained(
    tiny_pipeline: Pipelines, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="diffcls"):
        check_model(loading.load(str(tiny_pipeline("epsilon"))), *digits(2))
    assert "looks untrained: on 2 images" in caplog.text


def test_rates_of_the_sign_test_are_those_that_its_description_names() -> None:
    def at_least(k: int, p: float) -> float:
        """P(K >= k) for K of 16 draws, each better with probability p."""
        return sum(comb(16, i) * p**i * (1 - p) ** (16 - i) for i in range(k, 17))

    one, zero = np.ones(16), np.zeros(16)
    for better in range(17):
        errors = np.where(np.arange(16) < better, zero, 2 * one)
        assert _often_less(errors, one) == (better >= 13)
    assert at_least(13, 0.5) == pytest.approx(0.011, abs=5e-4)
    assert 4 * at_least(13, 0.5) < CHANCE
    assert 1 - at_least(13, 0.95) == pytest.approx(0.007, abs=5e-4)


def test_outputs_that_are_not_finite_are_refused() -> None:
    class Broken(GaussianDenoiser):
        def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
            return super().predict(x_t, index, cond) * float("nan")

    with pytest.raises(ModelError, match=r"not finite: 'float32'; try --dtype float32"):
        check_model(Broken(means()), *pictures())


def test_wrong_config_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(loading.WEIGHTS / "digits", tmp_path / "mine"))
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "epsilon"}))
    wishes = {"model": str(folder), "limit": 3, "draws": 4, "quiet": True}
    with pytest.raises(ModelError, match="prediction_type") as caught:
        run_evaluation(**wishes, output_dir=str(tmp_path / "one"))
    assert caught.value.exit_status == 2
    (records,) = (tmp_path / "one").rglob("records-*.jsonl")
    assert records.read_text() == ""
    (row,) = run_evaluation(**wishes, check_model=False, output_dir=str(tmp_path / "two"))
    assert row["n_scored"] == 3


def test_unreadable_images_are_skipped() -> None:
    def torn() -> Image.Image:
        raise DataError("torn")

    model = Mislabelled("sample", "epsilon")
    method = DiffusionMethod(model, PromptSet.from_templates(NAMES, ["{}"]), Exhaustive(2))
    bad = [Item(str(i), 0, torn) for i in range(3)]
    method.check(bad)  # their records have the errors
    good = [Item(f"g{i}", i, lambda i=i: _image(i)) for i in range(3)]  # type: ignore[misc]
    with pytest.raises(ModelError, match="allowed: sample"):
        method.check([*bad, *good])


def _image(k: int) -> Image.Image:
    array = (means()[NAMES[k]].numpy().transpose(1, 2, 0) * 127 + 128).astype(np.uint8)
    return Image.fromarray(array)


# ---- values that are not finite -----------------------------------------------------------------


class Overflowing(GaussianDenoiser):
    """NaN for the last prompt in half precision; with `always` in any precision."""

    always = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, dtype=torch.bfloat16, **kwargs)
        self.calls: list[tuple[torch.dtype, int]] = []

    @contextmanager
    def float32(self) -> Iterator[None]:
        self.dtype = torch.float32
        yield
        self.dtype = torch.bfloat16

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        out = super().predict(x_t, index, cond)
        self.calls.append((self.dtype, len(x_t)))
        last = (cond["mean"] == self.means[NAMES[-1]]).flatten(1).all(dim=1)
        if self.always or self.dtype != torch.float32:
            out[last] = float("nan")
        return out


def scored(model: GaussianDenoiser) -> list[Any]:
    method = DiffusionMethod(
        model, PromptSet.from_templates(NAMES, ["{}"]), Exhaustive(4), batch_size=6
    )
    items = [Item(f"i{k}", k, lambda k=k: _image(k)) for k in range(3)]  # type: ignore[misc]
    return sorted(method.classify(items), key=lambda answer: answer.image_id)


def test_overflow_is_repeated_in_single_precision() -> None:
    model = Overflowing(means())
    answers = scored(model)
    assert [answer.error for answer in answers] == [None] * 3
    assert [int(answer.ranking[0]) for answer in answers] == [0, 1, 2]
    assert all(answer.evaluations == 12 for answer in answers)
    assert {dtype for dtype, _ in model.calls} == {torch.bfloat16, torch.float32}
    assert {rows for _, rows in model.calls} == {6}  # of one shape, the retries too
    exact = scored(GaussianDenoiser(means()))
    for mine, theirs in zip(answers, exact, strict=True):
        np.testing.assert_allclose(mine.scores, theirs.scores, rtol=0.02)


def test_error_not_finite_in_any_precision_names_image_and_prompt() -> None:
    model = Overflowing(means())
    model.always = True
    for answer in scored(model):
        assert answer.error is not None and len(answer.ranking) == 0
        for part in ("noise prediction", answer.image_id, "'none'", "single precision"):
            assert part in answer.error


def test_latent_that_is_not_finite_names_its_image() -> None:
    class Encoder(GaussianDenoiser):
        def encode_images(self, images: Tensor) -> Tensor:
            x0 = super().encode_images(images).clone()
            x0[1] = float("inf")
            return x0

    answers = scored(Encoder(means()))
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert answers[1].error is not None and "image encoding of i1" in answers[1].error
