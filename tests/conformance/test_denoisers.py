"""Conformance of every denoiser to the protocol; a new family is one more row of MODELS."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_families import FAMILIES, loaded, predicts, saved
from torch import Tensor

from diffcls.diffusion.parameterization import PARAMETERIZATIONS
from diffcls.models import loading
from diffcls.models.denoiser import Conditioning, Denoiser, ModelCard
from diffcls.models.gaussian import GaussianDenoiser

PROMPTS = ["a photo of a 3.", "zero", "a photo of a handwritten digit seven."]
IDS = ["3", "0", "7"]  # prompts of a class-conditional model
Pipelines = Callable[[str], Path]
Build = Callable[[str, Pipelines, Path], Denoiser]


def prompts(model: Denoiser) -> list[str]:
    return PROMPTS if model.labels is None else IDS


def gaussian(prediction_type: str, *_: object) -> Denoiser:
    rng = torch.Generator().manual_seed(0)
    means = {prompt: torch.randn(3, 16, 16, generator=rng) for prompt in PROMPTS}
    return GaussianDenoiser(means, prediction_type=prediction_type)


def stable_diffusion(prediction_type: str, pipelines: Pipelines, _: Path) -> Denoiser:
    return loading.load(str(pipelines(prediction_type)))


def family(name: str) -> Build:
    def build(_: str, __: Pipelines, base: Path) -> Denoiser:
        denoiser: Denoiser = loaded(saved(name, base))
        return denoiser

    build.__name__ = name
    return build


MODELS: list[tuple[Build, str]] = [
    *((gaussian, name) for name in PARAMETERIZATIONS),
    *((stable_diffusion, name) for name in ("epsilon", "v_prediction", "sample")),
    *((family(name), predicts(name)) for name in FAMILIES),
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: f"{m[0].__name__}-{m[1]}")
def model(
    request: pytest.FixtureRequest,
    tiny_pipeline: Pipelines,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    build, prediction_type = request.param
    denoiser = build(prediction_type, tiny_pipeline, tmp_path_factory.getbasetemp())
    assert denoiser.parameterization.name == prediction_type
    return denoiser


def images(model: Denoiser, count: int) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, model.image_size, model.image_size, generator=rng) * 2 - 1


def batch(model: Denoiser, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, index, rows of the prompts."""
    rng = torch.Generator().manual_seed(2)
    x_t = torch.randn(count, *model.sample_shape, generator=rng).to(model.dtype)
    index = torch.randint(len(model.schedule), (count,), generator=rng)
    return x_t, index, torch.arange(count) % len(PROMPTS)


def test_attributes_are_consistent(model: Denoiser) -> None:
    assert isinstance(model.card, ModelCard) and model.card.name and model.card.revision
    assert model.card.temperature > 0
    assert len(model.sample_shape) == 3 and min(model.sample_shape) >= 1
    assert model.image_size >= max(model.sample_shape[1:])
    assert model.parameterization in PARAMETERIZATIONS.values()
    for gains in (model.schedule.alpha, model.schedule.sigma, model.schedule.timesteps):
        assert gains.dtype == np.float64  # the schedule stays in double precision
    assert (np.diff(model.schedule.sigma) > 0).all() and (np.diff(model.schedule.alpha) < 0).all()


def test_has_every_member_of_the_protocol(model: Denoiser) -> None:
    members = {name for name in vars(Denoiser) if not name.startswith("_")}
    members |= set(Denoiser.__annotations__)
    assert {"predict_both", "learns_variance", "is_latent", "autoencoder", "network"} <= members
    assert {name for name in members if not hasattr(model, name)} == set()
    assert model.labels is None or all(isinstance(name, str) for name in model.labels)
    assert model.network is None or isinstance(model.network, torch.nn.Module)


def test_only_a_latent_model_has_an_autoencoder(model: Denoiser) -> None:
    assert model.is_latent == (model.autoencoder is not None)
    if model.autoencoder is None:
        assert model.sample_shape[1:] == (model.image_size, model.image_size)
    else:
        assert model.sample_shape[0] == model.autoencoder.channels
        assert model.sample_shape[1] == model.image_size // model.autoencoder.factor
        decoded = model.autoencoder.decode(model.encode_images(images(model, 1)))
        assert torch.equal(decoded, model.decode_latents(model.encode_images(images(model, 1))))


def test_decoding_is_differentiable(model: Denoiser) -> None:
    x0 = torch.zeros(1, *model.sample_shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.decode_latents(x0).sum(), x0)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_variance_is_predicted_if_and_only_if_it_is_learned(model: Denoiser) -> None:
    cond = model.encode_prompts(prompts(model))
    x_t, index, rows = batch(model, 3)
    out, mixture = model.predict_both(x_t, index, cond.rows(rows))
    assert torch.equal(out, model.predict(x_t, index, cond.rows(rows)))
    assert (mixture is not None) == model.learns_variance
    if mixture is not None:
        assert mixture.shape == x_t.shape and mixture.dtype == model.dtype
        assert torch.isfinite(mixture).all()


@pytest.mark.parametrize(("name", "learned"), [("dit", True), ("pixart", True), ("sd1", False)])
def test_a_learned_variance_is_known_from_the_config(
    name: str, learned: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert loaded(saved(name, tmp_path_factory.getbasetemp())).learns_variance == learned


def test_prompts_have_equal_keys_if_and_only_if_their_conditioning_is_equal(
    model: Denoiser,
) -> None:
    if model.labels is not None:
        texts = [*IDS, "7"]
    elif isinstance(model, GaussianDenoiser):
        texts = [*PROMPTS, PROMPTS[1]]
    else:
        texts = [*PROMPTS, PROMPTS[1], "Zero", " zero ", "a photo of a  3.", "A Photo of a 3."]
    keys = list(model.prompt_keys(texts))
    cond = model.encode_prompts(texts)
    equal = 0
    for i, j in itertools.combinations(range(len(texts)), 2):
        same = all(torch.allclose(tensor[i], tensor[j], atol=1e-6) for tensor in cond.values())
        assert (keys[i] == keys[j]) == same, (texts[i], texts[j])
        equal += same
    assert equal  # one pair at least


def test_single_precision_lasts_as_long_as_its_context(model: Denoiser) -> None:
    cond = model.encode_prompts(prompts(model))
    x_t, index, rows = batch(model, 2)
    before, out = model.dtype, model.predict(x_t, index, cond.rows(rows))
    with model.float32():
        single = model.predict(x_t.float(), index, cond.rows(rows))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, out.float(), rtol=1e-2, atol=1e-2)
    assert model.dtype == before
    assert torch.equal(model.predict(x_t, index, cond.rows(rows)), out)


def test_images_become_latents_and_come_back_in_shape(model: Denoiser) -> None:
    x = images(model, 2)
    x0 = model.encode_images(x)
    assert x0.shape == (2, *model.sample_shape)
    assert x0.dtype == torch.float32 and x0.device == model.device
    back = model.decode_latents(x0)
    assert back.shape == x.shape and back.dtype == torch.float32
    assert torch.isfinite(back).all()


def test_latents_are_a_mean_not_a_sample(model: Denoiser) -> None:
    x = images(model, 3)
    torch.manual_seed(1)
    first = model.encode_images(x)
    torch.manual_seed(2)
    assert torch.equal(model.encode_images(x), first)
    for i in range(3):
        alone = model.encode_images(x[i : i + 1])[0]
        torch.testing.assert_close(alone, first[i], rtol=1e-5, atol=1e-5)
    assert not torch.equal(first[0], first[1])


def test_conditioning_has_one_row_per_prompt(model: Denoiser) -> None:
    cond = model.encode_prompts(prompts(model))
    assert cond.count == len(PROMPTS) and len(cond) >= 1
    order = torch.tensor([2, 0, 0, 1])
    rows = cond.rows(order)
    assert rows.count == 4
    for name, tensor in cond.items():
        assert len(tensor) == len(PROMPTS) and tensor.device == model.device
        assert torch.equal(rows[name], tensor[order])
        assert not torch.equal(tensor[0], tensor[1])


def test_prompt_encoding_is_independent_of_the_batch(model: Denoiser) -> None:
    together = model.encode_prompts(prompts(model))
    alone = Conditioning.concatenate([model.encode_prompts([prompt]) for prompt in prompts(model)])
    for name, tensor in together.items():
        torch.testing.assert_close(alone[name], tensor, rtol=1e-5, atol=1e-5)


def test_prediction_has_the_shape_and_type_of_its_input(model: Denoiser) -> None:
    cond = model.encode_prompts(prompts(model))
    for count in (1, 7):
        x_t, index, rows = batch(model, count)
        out = model.predict(x_t, index, cond.rows(rows))
        assert out.shape == x_t.shape
        assert out.dtype == model.dtype and out.device == model.device
        assert torch.isfinite(out).all() and not out.requires_grad


def test_prediction_repeats_to_the_bit_and_does_not_change_its_input(model: Denoiser) -> None:
    cond = model.encode_prompts(prompts(model))
    x_t, index, rows = batch(model, 7)
    before = [tensor.clone() for tensor in (x_t, index, *cond.values())]
    first = model.predict(x_t, index, cond.rows(rows))
    torch.manual_seed(99)
    assert torch.equal(model.predict(x_t, index, cond.rows(rows)), first)
    after = [x_t, index, *cond.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_batch_of_one_and_of_seven_agree(model: Denoiser) -> None:
    cond = model.encode_prompts(prompts(model))
    x_t, index, rows = batch(model, 7)
    together = model.predict(x_t, index, cond.rows(rows))
    for i in range(7):
        alone = model.predict(x_t[i : i + 1], index[i : i + 1], cond.rows(rows[i : i + 1]))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", ["image", "index", "prompt"])
def test_prediction_depends_on_each_of_its_inputs(model: Denoiser, what: str) -> None:
    cond = model.encode_prompts(prompts(model))
    x_t, index, rows = batch(model, 1)
    other = {
        "image": (x_t.flip(-1), index, rows),
        "index": (x_t, (index + 400) % len(model.schedule), rows),
        "prompt": (x_t, index, rows + 1),
    }[what]
    first = model.predict(x_t, index, cond.rows(rows))
    changed = model.predict(other[0], other[1], cond.rows(other[2]))
    # far above the difference between batch sizes
    assert (first - changed).abs().max() > 1e-3
