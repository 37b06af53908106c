"""Lack of device memory and half precision: batches are halved, passes repeated, answers kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fault_runs import row
from helpers.interrupted_runs import answers
from helpers.log_messages import own_messages
from PIL import Image

import diffcls
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.one_pass import BatchMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import to_image
from diffcls.models.denoiser import Conditioning
from diffcls.models.families.base import PipelineDenoiser
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.models.precision import in_float32
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.racing import Racing
from diffcls.support.errors import ModelError

K = 5
RNG = np.random.default_rng(7)
MEANS = {f"class {k}": torch.tensor(RNG.uniform(-0.9, 0.9, (3, 4, 4))).float() for k in range(K)}
SCORE_TOLERANCE = 1e-4
"""Largest relative difference of scores in single precision at another batch shape."""


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")


def items(count: int) -> list[Item]:
    def picture(i: int) -> Image.Image:
        mean = MEANS[f"class {i % K}"].numpy()
        return to_image(mean + np.random.default_rng(i).normal(0, 0.2, mean.shape))

    return [Item(f"test/{i}", i % K, lambda i=i: picture(i)) for i in range(count)]  # type: ignore[misc]


def method(
    kind: type[GaussianDenoiser], batch_size: int = 32, dtype: torch.dtype = torch.float32
) -> DiffusionMethod:
    prompts = PromptSet.from_templates(list(MEANS), ["{}"])
    model = kind(MEANS, 0.2, dtype=dtype)
    return DiffusionMethod(model, prompts, Racing(12), batch_size=batch_size, encode_batch=8)


def scores(built: DiffusionMethod, count: int = 9) -> dict[str, list[float]]:
    return {a.image_id: a.scores.tolist() for a in built.classify(items(count))}


# ---- lack of memory ------------------------------------------------------------------------------


@pytest.mark.faults
def test_run_without_memory_for_its_batch_has_the_answers_of_one_with_it(
    tmp_path: Path,
    tiny_pipeline: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    report: Callable[..., None],
) -> None:
    options: dict[str, Any] = {
        **{"model": str(tiny_pipeline("v_prediction")), "limit": 12, "draws": 8},
        **{"threads": 1, "batch_size": 16, "quiet": True, "check_model": False},
    }
    diffcls.run_evaluation(**options, output_dir=tmp_path / "whole")
    forward = PipelineDenoiser.predict_both

    def small(denoiser: Any, x_t: torch.Tensor, *rest: Any) -> Any:
        if len(x_t) > 4:
            raise out_of_memory()
        return forward(denoiser, x_t, *rest)

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(PipelineDenoiser, "predict_both", small)
        diffcls.run_evaluation(**options, output_dir=tmp_path / "small")
    assert [text for text in own_messages(caplog) if "memory" in text] == [
        f"out of memory at batch size {size}: continuing with {size // 2}" for size in (16, 8)
    ]
    mine, whole = answers(tmp_path / "small"), answers(tmp_path / "whole")
    assert mine.keys() == whole.keys()
    largest = 0.0
    for image_id, one in whole.items():
        assert mine[image_id].ranking == one.ranking
        assert mine[image_id].evaluations == one.evaluations
        both = np.array([mine[image_id].scores, one.scores], float)
        largest = max(largest, float(np.abs(both[0] / both[1] - 1).max()))
    assert largest < SCORE_TOLERANCE
    (header,) = (tmp_path / "small").glob("runs/*/run.json")
    kept = json.loads(header.read_text())
    assert (kept["batch_size"], kept["halved_batch_size"]) == (16, 4)
    # the note is read back, and a finished run with it answers as before
    before = row(tmp_path / "small")
    diffcls.run_evaluation(**options, output_dir=tmp_path / "small")
    assert row(tmp_path / "small") == before
    report(
        "Out of memory on a device",
        "batch of the network",
        f"same predictions and evaluations; scores within {SCORE_TOLERANCE:g}, relative",
        figure=f"largest difference {largest:.1e}",
    )


def test_encoder_without_memory_for_its_batch_encodes_parts_of_it(
    caplog: pytest.LogCaptureFixture, report: Callable[..., None]
) -> None:
    class SmallEncoder(GaussianDenoiser):
        def encode_images(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 2:
                raise out_of_memory()
            return super().encode_images(images)

    with caplog.at_level(logging.WARNING):
        assert scores(method(SmallEncoder)) == scores(method(GaussianDenoiser))
    assert len([text for text in own_messages(caplog) if "memory" in text]) == 2
    report(
        "Out of memory on a device", "encoder of images", "same scores", figure="same to the bit"
    )


@pytest.mark.parametrize("size", [8, 7])  # and parts that do not fill a batch
def test_single_pass_classifier_without_memory_scores_parts_of_its_batch(
    size: int, report: Callable[..., None]
) -> None:
    rows: list[int] = []

    def score(pixels: torch.Tensor, ids: Any) -> torch.Tensor:
        if len(pixels) > 3:
            raise out_of_memory()
        rows.append(len(pixels))
        assert len(ids) == len(pixels)
        return pixels.flatten(1)[:, :K]

    def read(item: Item) -> Any:
        return np.asarray(item.open(), np.float32).transpose(2, 0, 1)

    plain = BatchMethod(read, lambda: lambda pixels, _: pixels.flatten(1)[:, :K], batch_size=size)
    small = BatchMethod(read, lambda: score, batch_size=size)
    expected = {a.image_id: a.scores.tolist() for a in plain.classify(items(19))}
    assert {a.image_id: a.scores.tolist() for a in small.classify(items(19))} == expected
    assert set(rows) == {small.batch_size} and small.batch_size <= 3
    if size == 8:
        report("Out of memory on a device", "single pass", "same scores", figure="same to the bit")


class Without(GaussianDenoiser):
    """A device with memory for a number of rows."""

    rows, tries = 0, 0

    def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
        self.tries += 1
        if len(x_t) > self.rows:
            raise out_of_memory()
        return super().predict(x_t, index, cond)


def test_lack_of_memory_while_the_cost_is_measured_halves_the_batch() -> None:
    built = method(Without)
    built.denoiser.rows = 8  # type: ignore[attr-defined]
    assert built.seconds_per_batch() > 0
    assert built.batch_size == 8


def test_lack_of_memory_for_one_row_stops_with_a_message(report: Callable[..., None]) -> None:
    built = method(Without)
    with pytest.raises(ModelError, match=r"out of memory for a single evaluation.*choose --dtype"):
        list(built.classify(items(3)))
    tries = built.denoiser.tries  # type: ignore[attr-defined]
    assert tries <= 8  # 32, 16, … 1
    report(
        "Out of memory on a device",
        "smallest batch",
        "clear stop, no endless repetition",
        figure=f"{tries} tries",
    )


# ---- half precision ------------------------------------------------------------------------------


class Half(GaussianDenoiser):
    """Images of class 1 overflow in half precision: their latents are too large.

    Attributes:
        gain: factor of their latents; with 1e30, errors overflow in single precision, too.
        rows_in_single: rows of a batch for which there is memory in single precision.
    """

    gain, rows_in_single, conversions = 1e9, 10**6, 0

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        means = torch.stack(list(self.means.values())).flatten(1)
        of_class = torch.cdist(images.flatten(1), means).argmin(dim=1)
        return torch.where((of_class == 1).view(-1, 1, 1, 1), self.gain * images, images)

    @contextmanager
    def float32(self) -> Iterator[None]:  # type: ignore[override]
        self.conversions += 1
        own, self.dtype = self.dtype, torch.float32
        try:
            yield
        finally:
            self.dtype = own

    def predict(self, x_t: Any, index: Any, cond: Conditioning) -> Any:
        if self.conversions and self.dtype == torch.float32 and len(x_t) > self.rows_in_single:
            raise out_of_memory()
        return super().predict(x_t, index, cond)


def test_prediction_that_is_not_finite_is_repeated_in_single_precision(
    report: Callable[..., None],
) -> None:
    half = method(Half, dtype=torch.float16)
    mine = {a.image_id: a for a in half.classify(items(10))}
    assert half.denoiser.conversions > 0  # type: ignore[attr-defined]
    # overflowed images have the scores of single precision, the others those of half precision
    single = scores(method(Half), 10)
    plain = scores(method(GaussianDenoiser, dtype=torch.float16), 10)
    for image_id, answer in mine.items():
        assert answer.error is None
        expected = single if image_id in ("test/1", "test/6") else plain
        assert answer.scores.tolist() == expected[image_id]
    report(
        "NaN in half precision",
        "an image",
        "scores of single precision; other images unchanged",
        figure="same to the bit",
    )


def test_image_that_is_not_finite_in_single_precision_either_is_recorded_alone(
    report: Callable[..., None],
) -> None:
    half = method(Half, dtype=torch.float16)
    half.denoiser.gain = 1e30  # type: ignore[attr-defined]
    mine = {a.image_id: a for a in half.classify(items(10))}
    failed = {image_id for image_id, answer in mine.items() if answer.error is not None}
    assert failed == {"test/1", "test/6"}
    assert all("in single precision too" in str(mine[image_id].error) for image_id in failed)
    report(
        "NaN in half precision",
        "an image, in single precision too",
        "recorded with its error; the other images are scored",
        figure=f"{len(failed)} of 10 recorded, as injected",
    )


def test_repetition_in_single_precision_takes_the_batch_that_memory_holds() -> None:
    half, small = method(Half, dtype=torch.float16), method(Half, dtype=torch.float16)
    small.denoiser.rows_in_single = 2  # type: ignore[attr-defined]
    assert scores(small) == scores(half)
    assert small.batch_size == 32  # in half precision there is memory
    small.denoiser.rows_in_single = 0  # type: ignore[attr-defined]
    mine = {a.image_id: a.error for a in small.classify(items(9))}
    assert {image_id for image_id, error in mine.items() if error} == {"test/1", "test/6"}
    assert "memory does not suffice for single precision" in str(mine["test/1"])


def test_single_pass_score_that_is_not_finite_is_repeated_in_single_precision() -> None:
    single = False

    @contextmanager
    def float32() -> Iterator[None]:
        nonlocal single
        single = True
        yield
        single = False

    def score(pixels: torch.Tensor, ids: Any) -> torch.Tensor:
        out = pixels.flatten(1)[:, :K] + 100 * single
        bad = torch.tensor([i == "test/2" or (i == "test/3" and not single) for i in ids])
        return torch.where(bad[:, None], torch.nan, out)

    def read(item: Item) -> Any:
        return np.asarray(item.open(), np.float32).transpose(2, 0, 1)

    built = BatchMethod(read, lambda: score, batch_size=4, single=float32)
    mine = {a.image_id: a for a in built.classify(items(6))}
    assert str(mine["test/2"].error).endswith("is not finite, in single precision too")
    assert mine["test/3"].scores.min() >= 100  # of the second pass
    assert all(mine[f"test/{i}"].scores.max() < 100 + 255 for i in (0, 1, 4, 5))
    assert mine["test/0"].scores.tolist() == read(items(1)[0]).ravel()[:K].tolist()


@pytest.mark.parametrize("most", [0, 2])
def test_lack_of_memory_in_a_single_pass_repetition_concerns_its_images_alone(most: int) -> None:
    single, shapes = False, []

    @contextmanager
    def float32() -> Iterator[None]:
        nonlocal single
        single = True
        try:
            yield
        finally:
            single = False

    def score(pixels: torch.Tensor, ids: Any) -> torch.Tensor:
        if single and len(ids) > most:
            raise out_of_memory()
        if not single:
            shapes.append(len(ids))
        bad = torch.tensor([i == "test/2" and not single for i in ids])
        return torch.where(bad[:, None], torch.nan, pixels.flatten(1)[:, :K])

    def read(item: Item) -> Any:
        return np.asarray(item.open(), np.float32).transpose(2, 0, 1)

    built = BatchMethod(read, lambda: score, batch_size=4, single=float32)
    errors = {a.image_id: a.error for a in built.classify(items(9)) if a.error}
    assert shapes == [4, 4, 4]  # in half precision there is memory
    text = "a score of test/2 is not finite, and memory does not suffice for single precision"
    assert errors == ({} if most else {"test/2": text})


def test_network_gets_its_precision_back_if_memory_does_not_suffice_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)).half()
    convert, calls = torch.Tensor.float, 0

    def limited(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise out_of_memory()
        return convert(tensor)

    @contextmanager
    def whole() -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.Tensor, "float", limited)
    with pytest.raises(torch.OutOfMemoryError), in_float32(network, torch.float16, whole):
        raise AssertionError("not entered")
    assert {weight.dtype for weight in network.parameters()} == {torch.float16}


def test_exhaustive_search_is_halved_as_racing_is() -> None:
    prompts = PromptSet.from_templates(list(MEANS), ["{}"])
    small, plain = (
        DiffusionMethod(kind(MEANS, 0.2), prompts, Exhaustive(6), batch_size=32)
        for kind in (Without, GaussianDenoiser)
    )
    small.denoiser.rows = 5  # type: ignore[attr-defined]
    assert scores(small) == scores(plain)
