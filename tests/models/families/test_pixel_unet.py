"""Pixel U-Nets, saved and loaded: classes, channels and learned variances."""

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
from diffcls.generation.likelihood import Estimator, estimate
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


def class_dependent(unet: UNet2DModel) -> UNet2DModel:
    """The network with weights exact in half precision, and clearly dependent on its class."""
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
            unet = class_dependent(build_unet(recipe, len(NAMES)))
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


# ---- classes ------------------------------------------------------------------------------------


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
    # the output depends on the class
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
def test_prompts_other_than_class_ids_are_refused(built: Built, prompt: str) -> None:
    # 3 is in the table of embeddings, but is no class
    with pytest.raises(UsageError, match=r"not a class id of the model.*0 to 2"):
        opened(built()).encode_prompts([prompt])


@pytest.mark.parametrize("labels", [None, (), ("zero",), (*NAMES, "three")])
def test_without_a_card_that_says_so_no_class_means_none(
    built: Built, labels: tuple[str, ...] | None
) -> None:
    model = opened(built(labels=labels))
    assert model.labels == ("",) * 4
    assert model.encode_prompts(["3"])["class_id"].tolist() == [3]
    with pytest.raises(UsageError, match="not a class id of the model"):
        model.encode_prompts([""])


def test_an_unconditional_model_has_no_classes(built: Built) -> None:
    model = opened(built(replace(SMALL, conditional=False), labels=()))
    assert model.labels == ()
    x_t, index = inputs(model, 3)
    cond = model.encode_prompts([""]).rows(torch.zeros(3, dtype=torch.long))
    theirs = model.pipeline.unet(x_t, index).sample
    assert torch.equal(model.predict(x_t, index, cond), theirs)
    with pytest.raises(UsageError, match="the model is unconditional"):
        model.encode_prompts(["0"])


# ---- channels -----------------------------------------------------------------------------------


def test_one_channel_is_the_mean_of_three_and_decodes_to_three_equal_ones(built: Built) -> None:
    model = opened(built())
    assert model.sample_shape == (1, 8, 8)
    assert model.image_size == 8
    g = torch.Generator().manual_seed(0)
    values = torch.randint(0, 256, (2, 3, 8, 8), generator=g)
    images = values / 127.5 - 1
    x0 = model.encode_images(images)
    # rounded to the values of a pixel: the bound is one of discrete values
    expected = (values.sum(dim=1) / 3).round() / 127.5 - 1
    torch.testing.assert_close(x0[:, 0], expected)
    decoded = model.decode_latents(x0)
    assert decoded.shape == images.shape
    for channel in range(3):
        assert torch.equal(decoded[:, channel], x0[:, 0])
    # a gray image comes back
    gray = images[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(model.decode_latents(model.encode_images(gray)), gray)


def test_three_channels_are_neither_encoded_nor_decoded(built: Built) -> None:
    model = opened(built(replace(SMALL, channels=3)))
    assert model.sample_shape == (3, 8, 8)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(model.encode_images(images), images)
    assert torch.equal(model.decode_latents(images), images)


# ---- the folder ---------------------------------------------------------------------------------


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
    condition = {"class_labels": torch.tensor([1, 3])[rows]} if conditional else {}
    with torch.no_grad():
        out = theirs.unet(x_t, index, **condition).sample
    assert torch.equal(model.predict(x_t, index, cond), out[:, :1])
    # the saved weights are those built, which are exact in half precision
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = class_dependent(build_unet(recipe, len(NAMES)))
    for name, weight in fresh.state_dict().items():
        assert torch.equal(weight, theirs.unet.state_dict()[name])


# ---- the learned variance -----------------------------------------------------------------------

LEARNED = replace(SMALL, learned_variance=True)


def test_the_learned_variance_is_that_of_diffusers(
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
    # not the first level: β̃ is 0 there, and no noise is added
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
        assert mixture.std() > 0.01  # the network's variance is not constant


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
    estimated_x0 = model.parameterization.to_x0(
        out, x_t, float(model.schedule.alpha[t]), float(model.schedule.sigma[t])
    )
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(5))
    ours = steps.rows(t).reverse(estimated_x0, x_t, variance, noise)
    whole = model.pipeline.unet(x_t, index, class_labels=torch.tensor([1])).sample
    theirs = scheduler.step(whole, t, x_t, generator=torch.Generator().manual_seed(5)).prev_sample
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-4, atol=1e-4)


def test_sampling_uses_the_learned_variance(built: Built) -> None:
    model = opened(built(LEARNED))
    cond, empty = model.encode_prompts(["1"]), model.encode_prompts([""])
    x_t, path = torch.randn(1, *model.sample_shape), path_of(model.schedule, 4)

    def last_estimate(sampler: str) -> torch.Tensor:
        solver = find_sampler(sampler, model)
        predict = guided(model, cond, empty, 2.0, mixture=solver.learned)
        # an untrained network's samples are clipped: compare the estimates before that
        return list(solver.solve(model.schedule, predict, x_t, path, lambda _: x_t))[-1]

    with torch.inference_mode():
        learned, small, large = (
            last_estimate(f"ddpm{kind}") for kind in ("-learned", "-small", "")
        )
    assert not torch.allclose(learned, small) and not torch.allclose(learned, large)
    (one,) = sample(model, ["1"], [0], steps=4, scale=2.0, sampler="ddpm-learned", batch_size=3)
    assert one.images.shape == (1, 3, 8, 8)


def test_sampling_with_a_learned_variance_needs_one(built: Built) -> None:
    with pytest.raises(UsageError, match="needs a model with a learned variance"):
        next(sample(opened(built()), ["1"], [0], steps=4, scale=1.0, sampler="ddpm-learned"))


def test_a_model_without_learned_variance_predicts_none(built: Built) -> None:
    model = opened(built())
    x_t, index = inputs(model, 2)
    cond = model.encode_prompts(["0", "1"])
    assert model.predict_both(x_t, index, cond)[1] is None
    assert not model.learns_variance
    estimator = Estimator(bound.discretised_decoder(), "learned", levels=2)
    with pytest.raises(UsageError, match="learned no variance"):
        estimate(model, x_t.clamp(-1, 1), ["a", "b"], cond, estimator)


def fix_variance(model: PixelUNetDenoiser, second: float) -> None:
    """Make the second half of the output constant."""
    last: Any = model.pipeline.unet.conv_out
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        last.weight[1:] = 0
        last.bias[1:] = second


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("second", [-1.0, -0.25, 1.0])
def test_the_bound_is_computed_with_the_learned_variance(
    built: Built, conditional: bool, second: float
) -> None:
    recipe = replace(LEARNED, conditional=conditional)
    model = opened(built(recipe, NAMES if conditional else ()))
    fix_variance(model, second)
    assert model.learns_variance
    x0 = torch.randn(3, *model.sample_shape, generator=torch.Generator().manual_seed(0))
    x0 = (x0.clamp(-1, 1) * 127.5).round() / 127.5
    cond, ids = model.encode_prompts(["1" if conditional else ""]), ["a", "b", "c"]

    def bits(variance: str | np.ndarray) -> np.ndarray:
        decoder = bound.discretised_decoder()
        return estimate(model, x0, ids, cond, Estimator(decoder, variance, levels=20))

    small, large = (reverse_variances(chain(model.schedule), kind) for kind in ("small", "large"))
    mixture = (second + 1) / 2
    variance = np.exp(mixture * np.log(large) + (1 - mixture) * np.log(small))
    np.testing.assert_allclose(bits("learned"), bits(variance), rtol=1e-5)
    # at −1 and 1 the mixture is one of the fixed variances
    if second == -1.0:
        np.testing.assert_allclose(bits("learned"), bits("small"), rtol=1e-5)
    if second == 1.0:
        np.testing.assert_allclose(bits("learned"), bits("large"), rtol=1e-5)
    assert not np.allclose(bits("small"), bits("large"), rtol=1e-3)
