"""Denoisers of pixels as they are saved and loaded: their classes, channels and variances."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import nn

from diffcls.data.class_ids import class_prompts
from diffcls.diffusion import bound
from diffcls.diffusion.process import chain, learned_variance, reverse_variances
from diffcls.generation.guidance import guided
from diffcls.generation.likelihood import Estimator, estimate, learns_variance
from diffcls.generation.sample import find_sampler, sample
from diffcls.generation.samplers import path_of
from diffcls.models.families.pixel_unet import PixelUNetDenoiser
from diffcls.models.loading import CARD, load
from diffcls.support.errors import UsageError
from diffcls.training.pixel_diffusion import save
from diffcls.training.pixel_losses import build_unet
from diffcls.training.recipes import PixelRecipe

NAMES = ("zero", "one", "two")
SMALL = PixelRecipe(image_size=8, widths=(8, 16))
Built = Callable[..., Path]


def woken(unet: UNet2DModel) -> UNet2DModel:
    """The network with weights that are all there in half precision, and hear its class."""
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if name.startswith("class_embedding"):
                parameter.mul_(4.0)
            parameter.copy_(parameter.half().float())
    return unet


@pytest.fixture
def built(tmp_path: Path) -> Built:
    """(recipe, labels) -> folder of an untrained model, as training writes it."""

    def build(recipe: PixelRecipe = SMALL, labels: tuple[str, ...] | None = NAMES) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            unet = woken(build_unet(recipe, len(NAMES)))
        save(unet, None, recipe, tmp_path / "model")
        if labels is not None:
            card = {"name": "model", "labels": list(labels)}
            (tmp_path / "model" / CARD).write_text(json.dumps(card), encoding="utf-8")
        return tmp_path / "model"

    return build


def opened(folder: Path) -> PixelUNetDenoiser:
    denoiser = load(str(folder))
    assert isinstance(denoiser, PixelUNetDenoiser)
    return denoiser


def inputs(model: PixelUNetDenoiser, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x_t = torch.randn(count, *model.sample_shape, generator=g)
    return x_t, torch.randint(len(model.schedule), (count,), generator=g)


# ---- classes -----------------------------------------------------------------------------------


def test_a_prompt_is_a_class_by_its_number_and_the_empty_one_the_last(built: Built) -> None:
    model = opened(built())
    assert model.labels == NAMES
    cond = model.encode_prompts(["2", "0", "1", ""])
    assert cond["class_id"].tolist() == [2, 0, 1, 3]
    x_t, index = inputs(model, 4)
    x_t = x_t[:1].expand(4, -1, -1, -1)
    out = model.predict(x_t, index[:1].expand(4), cond)
    ids = torch.tensor([2, 0, 1, 3])
    theirs = model.pipeline.unet(x_t, index[:1], class_labels=ids).sample
    assert torch.equal(out, theirs)
    # the network hears which of them it is told
    for i in range(4):
        for j in range(i):
            assert (out[i] - out[j]).abs().max() > 1e-3


def test_classes_are_found_by_the_names_on_the_card(built: Built) -> None:
    model = opened(built())
    assert model.labels is not None
    assert class_prompts(("two", "zero"), model.labels).prompts == ("2", "0")
    with pytest.raises(UsageError, match="none of the model's classes"):
        class_prompts(("seven",), model.labels)


@pytest.mark.parametrize("prompt", ["3", "-1", "two", " "])
def test_what_is_no_class_is_refused(built: Built, prompt: str) -> None:
    # 3 is in the table of embeddings, but is no class
    with pytest.raises(UsageError, match=r"not a class of the model.*0 to 2"):
        opened(built()).encode_prompts([prompt])


@pytest.mark.parametrize("labels", [None, (), ("zero",), (*NAMES, "three")])
def test_without_a_card_that_says_so_no_class_means_none(
    built: Built, labels: tuple[str, ...] | None
) -> None:
    model = opened(built(labels=labels))
    assert model.labels == ("",) * 4
    assert model.encode_prompts(["3"])["class_id"].tolist() == [3]
    with pytest.raises(UsageError, match="not a class of the model"):
        model.encode_prompts([""])


def test_a_model_that_is_told_nothing_has_no_classes(built: Built) -> None:
    model = opened(built(replace(SMALL, conditional=False), labels=()))
    assert model.labels == ()
    x_t, index = inputs(model, 3)
    cond = model.encode_prompts([""]).rows(torch.zeros(3, dtype=torch.long))
    theirs = model.pipeline.unet(x_t, index).sample
    assert torch.equal(model.predict(x_t, index, cond), theirs)
    with pytest.raises(UsageError, match="knows none"):
        model.encode_prompts(["0"])


# ---- channels ----------------------------------------------------------------------------------


def test_a_model_of_one_channel_sees_the_mean_and_draws_three_alike(built: Built) -> None:
    model = opened(built())
    assert model.sample_shape == (1, 8, 8)
    assert model.image_size == 8
    g = torch.Generator().manual_seed(0)
    values = torch.randint(0, 256, (2, 3, 8, 8), generator=g)
    images = values / 127.5 - 1
    x0 = model.encode_images(images)
    # to the next of the values that a pixel has: the bound of thirds would be another one
    expected = (values.sum(dim=1) / 3).round() / 127.5 - 1
    torch.testing.assert_close(x0[:, 0], expected)
    drawn = model.decode_latents(x0)
    assert drawn.shape == images.shape
    for channel in range(3):
        assert torch.equal(drawn[:, channel], x0[:, 0])
    # a gray image comes back
    gray = images[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(model.decode_latents(model.encode_images(gray)), gray)


def test_a_model_of_three_channels_sees_and_draws_images_as_they_are(built: Built) -> None:
    model = opened(built(replace(SMALL, channels=3)))
    assert model.sample_shape == (3, 8, 8)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(model.encode_images(images), images)
    assert torch.equal(model.decode_latents(images), images)


# ---- the folder --------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("learned", [True, False])
def test_plain_diffusers_loads_the_folder_and_finds_the_same_network(
    built: Built, conditional: bool, learned: bool
) -> None:
    recipe = replace(SMALL, conditional=conditional, learned_variance=learned)
    folder = built(recipe, NAMES if conditional else ())
    theirs = DDPMPipeline.from_pretrained(folder)
    assert theirs.unet.dtype == torch.float32
    model = opened(folder)
    x_t, index = inputs(model, 5)
    rows = torch.tensor([0, 1, 0, 1, 1])
    cond = model.encode_prompts(["1", ""] if conditional else ["", ""]).rows(rows)
    told = {"class_labels": torch.tensor([1, 3])[rows]} if conditional else {}
    with torch.no_grad():
        out = theirs.unet(x_t, index, **told).sample
    assert torch.equal(model.predict(x_t, index, cond), out[:, :1])
    # what was built is what was saved: its weights are whole in half precision
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = woken(build_unet(recipe, len(NAMES)))
    for name, weight in fresh.state_dict().items():
        assert torch.equal(weight, theirs.unet.state_dict()[name])


# ---- the learned variance ----------------------------------------------------------------------

LEARNED = replace(SMALL, learned_variance=True)


def test_the_mixture_of_a_learned_variance_is_what_diffusers_makes_of_the_output(
    built: Built,
) -> None:
    folder = built(LEARNED)
    model = opened(folder)
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    assert scheduler.config.variance_type == "learned_range"
    steps = chain(model.schedule)
    small, large = (reverse_variances(steps, kind) for kind in ("small", "large"))
    cond = model.encode_prompts(["1"])
    x_t, _ = inputs(model, 1)
    # at the first level both sides put something else for a β̃ of 0, and nothing is drawn there
    for t in (1, 2, 100, 500, 999):
        index = torch.tensor([t])
        out, mixture = model.predict_both(x_t, index, cond)
        assert mixture is not None
        assert out.shape == mixture.shape == x_t.shape
        assert torch.equal(out, model.predict(x_t, index, cond))
        whole = model.pipeline.unet(x_t, index, class_labels=torch.tensor([1])).sample
        theirs = scheduler._get_variance(t, predicted_variance=whole[:, 1:])  # of its logarithm
        ours = learned_variance(mixture, float(small[t]), float(large[t]))
        # the library's β come from float32
        torch.testing.assert_close(ours, theirs.exp(), rtol=2e-3, atol=0)
        assert mixture.std() > 0.01  # the network did say something


def test_a_step_of_diffusers_has_the_learned_mean_and_variance(built: Built) -> None:
    folder = built(LEARNED)
    model = opened(folder)
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler", clip_sample=False)
    steps, t = chain(model.schedule), 300
    x_t, _ = inputs(model, 1)
    index = torch.tensor([t])
    out, mixture = model.predict_both(x_t, index, model.encode_prompts(["1"]))
    assert mixture is not None
    small, large = (float(reverse_variances(steps, kind)[t]) for kind in ("small", "large"))
    variance = learned_variance(mixture, small, large)
    guess = model.parameterization.to_x0(
        out, x_t, float(model.schedule.alpha[t]), float(model.schedule.sigma[t])
    )
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(5))
    ours = steps.rows(t).reverse(guess, x_t, variance, noise)
    whole = model.pipeline.unet(x_t, index, class_labels=torch.tensor([1])).sample
    theirs = scheduler.step(whole, t, x_t, generator=torch.Generator().manual_seed(5)).prev_sample
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-4, atol=1e-4)


def test_samples_are_drawn_with_the_learned_variance(built: Built) -> None:
    model = opened(built(LEARNED))
    cond, empty = model.encode_prompts(["1"]), model.encode_prompts([""])
    x_t, path = torch.randn(1, *model.sample_shape), path_of(model.schedule, 4)

    def drawn(sampler: str) -> torch.Tensor:
        found = find_sampler(sampler, model)
        predict = guided(model, cond, empty, 2.0, mixture=found.learned)
        # an untrained network's images are all black and white: the estimates before that
        return list(found.solve(model.schedule, predict, x_t, path, lambda _: x_t))[-1]

    with torch.inference_mode():
        learned, small, large = (drawn(f"ddpm{kind}") for kind in ("-learned", "-small", ""))
    assert not torch.allclose(learned, small) and not torch.allclose(learned, large)
    (one,) = sample(model, ["1"], [0], steps=4, scale=2.0, sampler="ddpm-learned", batch_size=3)
    assert one.images.shape == (1, 3, 8, 8)


def test_a_model_that_learned_none_is_not_asked_for_it(built: Built) -> None:
    with pytest.raises(UsageError, match="needs a model with a learned variance"):
        next(sample(opened(built()), ["1"], [0], steps=4, scale=1.0, sampler="ddpm-learned"))


def test_a_network_of_a_fixed_variance_gives_no_mixture(built: Built) -> None:
    model = opened(built())
    x_t, index = inputs(model, 2)
    cond = model.encode_prompts(["0", "1"])
    assert model.predict_both(x_t, index, cond)[1] is None
    assert not learns_variance(model)
    how = Estimator(bound.discretised_decoder(), "learned", levels=2)
    with pytest.raises(UsageError, match="learned no variance"):
        estimate(model, x_t.clamp(-1, 1), ["a", "b"], cond, how)


def says(model: PixelUNetDenoiser, second: float) -> None:
    """Make the second half of the output the same everywhere."""
    last: Any = model.pipeline.unet.conv_out
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        last.weight[1:] = 0
        last.bias[1:] = second


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("second", [-1.0, -0.25, 1.0])
def test_the_bound_of_a_learned_variance_is_taken_with_it(
    built: Built, conditional: bool, second: float
) -> None:
    recipe = replace(LEARNED, conditional=conditional)
    model = opened(built(recipe, NAMES if conditional else ()))
    says(model, second)
    assert learns_variance(model)
    x0 = torch.randn(3, *model.sample_shape, generator=torch.Generator().manual_seed(0))
    x0 = (x0.clamp(-1, 1) * 127.5).round() / 127.5
    cond, ids = model.encode_prompts(["1" if conditional else ""]), ["a", "b", "c"]

    def bits(variance: str | np.ndarray) -> np.ndarray:
        decoder = bound.discretised_decoder()
        return estimate(model, x0, ids, cond, Estimator(decoder, variance, levels=20))

    small, large = (reverse_variances(chain(model.schedule), kind) for kind in ("small", "large"))
    mixture = (second + 1) / 2
    told = np.exp(mixture * np.log(large) + (1 - mixture) * np.log(small))
    np.testing.assert_allclose(bits("learned"), bits(told), rtol=1e-5)
    # at its ends the mixture is one of the fixed variances
    if second == -1.0:
        np.testing.assert_allclose(bits("learned"), bits("small"), rtol=1e-5)
    if second == 1.0:
        np.testing.assert_allclose(bits("learned"), bits("large"), rtol=1e-5)
    assert not np.allclose(bits("small"), bits("large"), rtol=1e-3)
