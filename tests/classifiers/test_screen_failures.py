"""Failures in screens: a failed image is reported, and no other image is affected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers.answers import assert_same, by_id
from helpers.screened import DRAWS, MEAN_OF, NAMES, SCREENS, SIDE, each_screen, item, items, method
from PIL import Image
from torch import Tensor

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.search.gradient import Gradient, GradientScreen
from diffcls.search.propose import Propose
from diffcls.search.screening import ScreenedSearch, Screening, StartScreening
from diffcls.support.errors import DataError, UsageError


class NoSlope(GaussianDenoiser):
    """Finite errors, and gradients that are not finite for black images."""

    def encode_images(self, images: Tensor) -> Tensor:
        black = (images == -1).flatten(1).all(dim=1).view(-1, 1, 1, 1)
        return torch.where(black, -50.0, images)  # detectable under any noise

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        out = super().predict(x_t, index, cond)
        mean = cond["mean"]
        if not mean.requires_grad:
            return out
        dark = x_t.mean(dim=(1, 2, 3)) < -1
        # √0: the value is 0, the derivative not finite
        nothing = (mean[dark] - mean[dark].detach()).abs().sqrt()
        return out.index_add(0, dark.nonzero().flatten(), nothing.to(out.dtype))


def black() -> Item:
    return Item("black", 0, lambda: Image.new("RGB", (SIDE, SIDE)))


def test_a_gradient_that_is_not_finite_fails_its_image_alone() -> None:
    chosen = items(9)
    expected = by_id(method(SCREENS["gradient"]).classify(chosen))
    broken = method(SCREENS["gradient"], NoSlope)
    result = by_id(broken.classify([*chosen[:4], black(), *chosen[4:]]))
    failed = result.pop("black")
    assert "the screen of black is not finite" in str(failed.error)
    assert len(failed.ranking) == len(failed.scores) == 0
    assert result.keys() == expected.keys()
    for image_id, answer in expected.items():
        assert_same(result[image_id], answer)


class Overflows(GaussianDenoiser):
    """Errors, or only gradients, that are not finite in half precision."""

    def predict(self, x_t: Tensor, index: Tensor, cond: Conditioning) -> Tensor:
        out = super().predict(x_t, index, cond)
        return out * float("inf") if self.dtype == torch.float16 else out

    @contextmanager
    def float32(self) -> Iterator[None]:
        self.dtype = torch.float32
        try:
            yield
        finally:
            self.dtype = torch.float16


@each_screen
def test_probes_that_overflow_are_repeated_in_single_precision(search: ScreenedSearch) -> None:
    expected = by_id(method(search).classify(items(9)))
    result = by_id(method(search, Overflows, dtype=torch.float16).classify(items(9)))
    assert result.keys() == expected.keys()
    for image_id, answer in expected.items():
        assert_same(result[image_id], answer)


@each_screen
def test_an_image_that_cannot_be_read_fails_alone(search: ScreenedSearch) -> None:
    def refuse() -> Image.Image:
        raise DataError("no such luck")

    expected = by_id(method(search).classify(items(7)))
    bad = Item("bad", 0, refuse)
    result = by_id(method(search).classify([*items(3), bad, *map(item, range(3, 7))]))
    assert result.pop("bad").error == "no such luck"
    for image_id, answer in expected.items():
        assert_same(result[image_id], answer)


class Reopens(GradientScreen):
    """A screen that reopens the image, like one with its own model."""

    def prepare(self, prompts: PromptSet, cond: Conditioning) -> StartScreening:
        start = super().prepare(prompts, cond)

        def reopen(open_image: Callable[[], Any]) -> Screening:
            open_image()
            return start(open_image)

        return reopen


class Reopening(Gradient):
    """A search with that screen."""

    @property
    def screen(self) -> GradientScreen:
        screen = super().screen
        return Reopens(screen.candidates, screen.draws, screen.density, screen.shrink, screen.width)


def test_an_image_that_cannot_be_read_twice_fails_alone() -> None:
    left = iter([item(0).open()])

    def once() -> Image.Image:
        for image in left:
            return image
        raise OSError("gone")

    search = Reopening(DRAWS, candidates=3)
    result = by_id(method(search).classify([*items(5), Item("once", 0, once)]))
    assert result.pop("once").error == "gone"
    assert len(result) == 5 and {answer.error for answer in result.values()} == {None}


@pytest.mark.parametrize("search", [*SCREENS.values(), Propose(5, proposer="clip-digits")])
def test_prompts_that_a_screen_cannot_use_are_refused(search: ScreenedSearch) -> None:
    prompts = PromptSet.from_templates(NAMES, ["{}"])
    with pytest.raises(UsageError, match=r"classes that all images share.*prompts that race"):
        DiffusionMethod(GaussianDenoiser(MEAN_OF), prompts, search, aggregate="prompts")
    asked = PromptSet.from_templates(NAMES, ["{}"], asked=2)
    means = {**MEAN_OF, "": MEAN_OF[NAMES[0]]}
    with pytest.raises(UsageError, match=r"all images share.*candidates of an image"):
        DiffusionMethod(GaussianDenoiser(means), asked, search)
