"""Diffusion classifier: correct on analytic models, and independent of batch composition."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.answers import assert_independent_of_batches, assert_same, by_id, table
from PIL import Image
from torch import Tensor

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data import catalog
from diffcls.data.dataset import Item
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import to_image
from diffcls.models import loading
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.scoring.batch_runner import Queues
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.paper import Paper
from diffcls.search.racing import Racing
from diffcls.support.errors import DataError

K, SIDE = 6, 4
NAMES = [f"class {k}" for k in range(K)]
RNG = np.random.default_rng(11)
MEANS = RNG.uniform(-0.9, 0.9, (K, 3, SIDE, SIDE))
MEAN_OF = {name: torch.tensor(MEANS[k], dtype=torch.float32) for k, name in enumerate(NAMES)}
B = 16


def picture(k: int, seed: int, spread: float = 0.25) -> Image.Image:
    rng = np.random.default_rng([k, seed])
    return to_image(MEANS[k] + rng.normal(0, spread, MEANS[k].shape))


def items(count: int) -> list[Item]:
    return [Item(f"test/{i}", i % K, lambda i=i: picture(i % K, i)) for i in range(count)]  # type: ignore[misc]


def denoiser(kind: type[GaussianDenoiser] = GaussianDenoiser, **options: Any) -> GaussianDenoiser:
    return kind(MEAN_OF, 0.25, **options)


def method(model: Any = None, search: Any = None, **options: Any) -> DiffusionMethod:
    prompts = PromptSet.from_templates(NAMES, ["{}"])
    options = {"batch_size": B, "encode_batch": 4, "keep_errors": True, **options}
    return DiffusionMethod(model or denoiser(), prompts, search or Racing(20), **options)


# ---- accuracy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "flow"])
@pytest.mark.parametrize("search", [Racing(40), Exhaustive(20), Paper((5, 20), (3, 1))], ids=repr)
def test_images_are_classified_correctly(search: Any, prediction_type: str) -> None:
    # images lie so near to the means that Bayes' rule is certain
    chosen = items(30)
    result = by_id(method(denoiser(prediction_type=prediction_type), search).classify(chosen))
    for item in chosen:
        x0 = np.asarray(item.open(), dtype=np.float64).transpose(2, 0, 1) / 127.5 - 1
        nearest = ((MEANS - x0) ** 2).sum(axis=(1, 2, 3)).argmin()
        answer = result[item.image_id]
        assert answer.error is None and answer.seconds > 0
        assert answer.ranking[0] == nearest == item.label
        assert sorted(answer.ranking) == list(range(K))
        assert (answer.scores[answer.ranking][:-1] >= answer.scores[answer.ranking][1:]).all()
        assert answer.evaluations == np.isfinite(table(answer)).sum()


# the protocol's table: classes, samples and classes kept per stage, evaluations per image
PROTOCOL = {
    "food101": (101, (20, 50, 100, 500), (20, 10, 5, 1), 5570),
    "cifar10": (10, (50, 500), (5, 1), 2750),
    "fgvc_aircraft": (100, (20, 50, 100, 500), (20, 10, 5, 1), 5550),
    "pets": (37, (25, 250), (5, 1), 2050),
    "flowers102": (102, (20, 50, 100, 500), (20, 10, 5, 1), 5590),
    "stl10": (10, (100, 500), (5, 1), 3000),
    "imagenet": (1000, (50, 100, 500, 1000), (500, 50, 10, 1), 124_500),
    "objectnet": (113, (50, 100, 500, 1000), (25, 10, 5, 1), 14_400),
}


@pytest.mark.parametrize("dataset", PROTOCOL)
def test_published_stages_cost_what_the_protocol_says(dataset: str) -> None:
    classes, samples, keep, evaluations = PROTOCOL[dataset]
    names = [f"{k}" for k in range(classes)]
    values = torch.linspace(-1, 1, classes).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    model = GaussianDenoiser(dict(zip(names, values, strict=True)), 0.1)
    prompts = PromptSet.from_templates(names, ["{}"])
    built = DiffusionMethod(model, prompts, Paper(samples, keep), batch_size=500, encode_batch=1)
    gray = Image.new("RGB", (1, 1), (200, 200, 200))
    (answer,) = built.classify([Item("test/0", 0, lambda: gray)])
    assert answer.error is None
    assert answer.evaluations == evaluations
    assert abs(int(answer.ranking[0]) - (200 / 127.5) / 2 * (classes - 1)) <= classes // 50 + 1


def test_templates_of_a_class_average_to_one_error() -> None:
    twisted = {f"no {name}": -mean for name, mean in MEAN_OF.items()}
    model = GaussianDenoiser({**MEAN_OF, **twisted}, 0.25)
    tables = []
    for templates in (["{}"], ["no {}"], ["{}", "no {}"]):
        prompts = PromptSet.from_templates(NAMES, templates)
        one = DiffusionMethod(model, prompts, Exhaustive(7), batch_size=B, keep_errors=True)
        answers = list(one.classify(items(5)))
        assert {a.evaluations for a in answers} == {7 * K * len(templates)}
        tables.append(np.stack([a.errors for a in answers if a.errors is not None]))
    assert tables[2] == pytest.approx((tables[0] + tables[1]) / 2, rel=1e-6)
    assert not np.allclose(tables[0], tables[1], rtol=0.1)


# ---- independent of batch composition -----------------------------------------------------------


@pytest.fixture(scope="module", params=["gaussian", "stable diffusion"])
def racer(
    request: pytest.FixtureRequest, tiny_pipeline: Callable[[str], Path]
) -> tuple[DiffusionMethod, list[Item]]:
    """A method, and images for it."""
    if request.param == "gaussian":
        return method(), items(23)
    digits = load_dataset("digits")
    prompts = PromptSet.from_templates(digits.class_names, catalog.find("digits").templates)
    model = loading.load(str(tiny_pipeline("v_prediction")))
    search = Racing(6, confidence=0.5)
    options = {"batch_size": B, "encode_batch": 4, "keep_errors": True}
    return DiffusionMethod(model, prompts, search, **options), list(digits.items[:11])  # type: ignore[arg-type]


def test_results_do_not_depend_on_order_or_batch_composition(
    racer: tuple[DiffusionMethod, list[Item]],
) -> None:
    assert_independent_of_batches(*racer)


def test_seed_changes_the_noise() -> None:
    one, two = (by_id(method(seed=seed).classify(items(4))) for seed in (0, 1))
    assert all(not np.array_equal(table(one[i]), table(two[i]), equal_nan=True) for i in one)


def test_no_images_give_no_results() -> None:
    assert list(method().classify([])) == []


# ---- failures -----------------------------------------------------------------------------------


def test_corrupt_image_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")

    def refuse() -> Image.Image:
        raise DataError("no such luck")

    def truncated() -> Image.Image:
        return Image.open(tmp_path / "bad.png")  # raises PIL's error

    chosen = items(9)
    expected = by_id(method().classify(chosen))
    bad = [Item("bad/1", 0, refuse), Item("bad/2", 1, truncated), Item("bad/3", 2, refuse)]
    result = by_id(method().classify([bad[0], *chosen[:5], bad[1], *chosen[5:], bad[2]]))
    for image_id, answer in expected.items():
        assert_same(result.pop(image_id), answer)
    assert set(result) == {"bad/1", "bad/2", "bad/3"}
    assert result["bad/1"].error == "no such luck"
    for answer in result.values():
        assert answer.error and answer.evaluations == 0
        assert len(answer.scores) == len(answer.ranking) == 0
    assert {a.error is None for a in method().classify(bad)} == {False}  # no image is readable


class Broken(GaussianDenoiser):
    """Not finite for one prompt."""

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        out = super().predict(x_t, index, cond)
        bad = (cond["mean"] == self.means["class 2"]).flatten(1).all(dim=1)
        out[bad] = float("nan")
        return out


class BrokenEncoder(GaussianDenoiser):
    """Not finite for images without red."""

    def encode_images(self, images: Tensor) -> Tensor:
        images = images.clone()
        images[(images[:, 0] == -1).flatten(1).all(dim=1)] = float("inf")
        return images


@pytest.mark.parametrize("search", [Racing(20), Exhaustive(5), Paper((2, 6), (3, 1))], ids=repr)
def test_output_that_is_not_finite_fails_its_image(search: Any) -> None:
    answers = list(method(denoiser(Broken), search).classify(items(5)))
    assert len(answers) == 5
    for answer in answers:
        assert answer.error is not None
        assert answer.image_id in answer.error and "for prompt 'class 2'" in answer.error
        assert len(answer.ranking) == 0


def test_image_that_is_not_finite_fails_alone() -> None:
    chosen = items(7)
    expected = by_id(method().classify(chosen))
    black = Item("black", 0, lambda: Image.new("RGB", (SIDE, SIDE)))
    result = by_id(method(denoiser(BrokenEncoder)).classify([*chosen[:3], black, *chosen[3:]]))
    assert "not finite" in str(result.pop("black").error)
    for image_id, answer in expected.items():
        assert_same(result[image_id], answer)


# ---- bounded memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("search", [Racing(20), Exhaustive(3), Paper((2, 6), (3, 1))], ids=repr)
def test_a_stream_without_end_is_scored_in_bounded_memory(search: Any) -> None:
    admitted = 0

    def endless() -> Iterator[Item]:
        nonlocal admitted
        for i in itertools.count():
            admitted += 1
            yield Item(f"{i}", i % K, lambda i=i: picture(i % K, i))  # type: ignore[misc]

    built = method(search=search)
    for done, _ in enumerate(itertools.islice(built.classify(endless()), 200), start=1):
        # each image in flight has a pending request; images are admitted until a batch is full
        assert admitted - done < B + built.encode_batch


def test_requests_in_memory_are_those_of_a_batch_and_an_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = []
    add = Queues.add

    def counted(self: Queues, *wanted: Any) -> None:
        add(self, *wanted)
        waiting.append(len(self))

    monkeypatch.setattr(Queues, "add", counted)
    built = method(search=Exhaustive(50))
    assert len(list(built.classify(items(20)))) == 20
    # an image requests all at once, and is admitted only if less than a batch waits
    assert K * 50 <= max(waiting) < B + K * 50


def test_batches_are_full_while_images_wait() -> None:
    sizes = []
    built = method()
    errors = built.scorer.errors

    def counted(x0: Tensor, prompts: Tensor, draws: list[int], control: None) -> Tensor:
        sizes.append(len(draws))
        return errors(x0, prompts, draws, control)

    built.scorer.errors = counted
    answers = list(built.classify(items(60)))
    # only free rows of the last few batches are speculative
    asked = sum(answer.evaluations for answer in answers)
    assert sum(sizes) - 20 * B < asked <= sum(sizes)
    # all but the last few, when fewer requests than a batch are left
    last_full = max(i for i, size in enumerate(sizes) if size == B)
    assert set(sizes[:last_full]) == {B}
    assert len(sizes) - last_full <= 20 + 1
