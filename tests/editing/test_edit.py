"""Edits of images: the inversion, attention under control, and what an edit leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcls.data.load import load_dataset
from diffcls.data.transforms import load_image, to_pixels
from diffcls.editing.attention import controlled
from diffcls.editing.change_region import ChangeRegion
from diffcls.editing.edit import edit, edited_steps
from diffcls.editing.inversion import invert
from diffcls.editing.options import EditSettings
from diffcls.models import given
from diffcls.support.errors import ModelError, UsageError

FEW = {"steps": 6}


@pytest.fixture(scope="module")
def model() -> Any:
    return given.load("scenes", "cpu", None, None)


@pytest.fixture(scope="module")
def shown() -> tuple[Tensor, str]:
    """Pixels of a scene, and the sentence that describes it."""
    data = load_dataset("scenes/attributes", "validation")
    pixels = to_pixels(load_image(data.items[3].open()), 32)
    return torch.from_numpy(pixels), data.class_names[data.items[3].label]


def decoded(model: Any, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        x0 = model.encode_images(pixels[None])
        return model.decode_latents(x0).clamp(-1, 1)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("keep_surroundings", [True, False])
def test_equal_prompts_give_what_the_autoencoder_makes_of_the_image(
    model: Any, shown: tuple[Tensor, str], guidance: float, keep_surroundings: bool
) -> None:
    pixels, text = shown
    settings = EditSettings(**FEW, guidance=guidance, keep_surroundings=keep_surroundings)
    result = edit(model, pixels, text, text, settings)
    whole = decoded(model, pixels)
    assert torch.allclose(result.reconstruction, whole, atol=1e-5)
    assert torch.allclose(result.image, whole, atol=2e-4)
    if keep_surroundings:
        assert result.region is not None and not result.region.any()


def test_steps_of_the_inversion_lead_back_to_the_image(model: Any) -> None:
    # with ever smaller steps the two directions agree (Song et al. 2021, section 4.3)
    data = load_dataset("scenes/attributes", "validation")
    item = data.items[5]
    pixels = torch.from_numpy(to_pixels(load_image(item.open()), 32))
    with torch.inference_mode():
        x0 = model.encode_images(pixels[None])
        cond = model.encode_prompts([data.class_names[item.label]])
        errors, row = [], model.parameterization
        levels = model.schedule.alpha, model.schedule.sigma
        for steps in (5, 40):
            found = invert(model, x0, cond, steps)
            x = found.states[:1]
            for t, s in zip(found.path[:-1], found.path[1:], strict=True):
                out = model.predict(x, torch.tensor([int(t)]), cond)
                a, b = (torch.tensor(float(v[t])) for v in levels)
                alpha, sigma = (float(v[s]) for v in levels)
                x = alpha * row.to_x0(out, x, a, b) + sigma * row.to_noise(out, x, a, b)
            errors.append(float((x - found.states[-1:]).square().mean()))
            assert len(found.states) == steps
            assert torch.allclose(found.states[-1], x0[0] * float(model.schedule.alpha[0]))
    assert errors[1] < errors[0] / 4


def test_attention_that_is_only_read_changes_no_prediction(model: Any) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, *model.sample_shape, generator=rng)
    cond = model.encode_prompts(["a small red circle", "a large blue cross"])
    index, seen = torch.tensor([300, 700]), []

    def look(probabilities: Tensor, is_cross: bool) -> Tensor:
        assert torch.allclose(probabilities.sum(dim=-1), torch.ones(()), atol=1e-5)
        seen.append((is_cross, probabilities.shape))
        return probabilities

    with torch.inference_mode():
        before = model.predict(x, index, cond)
        with controlled(model.network, look):
            during = model.predict(x, index, cond)
        assert torch.allclose(during, before, atol=1e-4)
        assert torch.equal(model.predict(x, index, cond), before)
    length = model.pipeline.tokenizer.model_max_length
    assert {shape[-1] for is_cross, shape in seen if is_cross} == {length}
    assert all(shape[2] == shape[3] for is_cross, shape in seen if not is_cross)
    with pytest.raises(RuntimeError, match="stop"), controlled(model.network, stop):
        model.predict(x, index, cond)
    assert {type(p).__name__ for p in model.network.attn_processors.values()} == {
        "AttnProcessor2_0"
    }
    assert torch.equal(model.predict(x, index, cond).detach(), before)


def stop(probabilities: Tensor, is_cross: bool) -> Tensor:
    raise RuntimeError("stop")


def test_the_image_changes_inside_the_region_alone(model: Any, shown: tuple[Tensor, str]) -> None:
    pixels, text = shown
    assert text == "a small orange square"
    target = "a small blue square"
    result = edit(model, pixels, text, target, EditSettings(steps=12))
    free = edit(model, pixels, text, target, EditSettings(steps=12, keep_surroundings=False))
    assert free.region is None and result.region is not None and 0 < result.region.sum() < 40
    changed = (result.image - result.reconstruction).abs().amax(dim=0) > 20 / 255
    everywhere = (free.image - free.reconstruction).abs().amax(dim=0) > 20 / 255
    assert 0 < changed.sum() < everywhere.sum()
    # the object is blue now: its blue channel rises, its red one falls
    gap = (result.image - result.reconstruction)[:, changed].mean(dim=1)
    assert gap[2] > 0.3 and gap[0] < -0.3


@pytest.mark.parametrize(
    ("steps", "strength", "edited"), [(2, 1.0, 1), (3, 0.5, 1), (50, 0.75, 36), (12, 1.0, 11)]
)
def test_a_strength_is_the_share_of_the_steps_that_are_edited(
    steps: int, strength: float, edited: int
) -> None:
    assert edited_steps(steps - 1, strength) == edited
    assert abs(edited - strength * (steps - 1)) < 1


def test_an_edit_without_a_step_is_refused_and_the_shortest_keeps_the_surroundings(
    model: Any, shown: tuple[Tensor, str]
) -> None:
    pixels, text = shown
    target = "a small blue square"
    with pytest.raises(UsageError, match=r"no step of the path would be edited: '0.4 of 2 steps'"):
        edit(model, pixels, text, target, EditSettings(steps=3, strength=0.4))
    with pytest.raises(UsageError, match="--guidance"):
        EditSettings(guidance=0)
    one_step = edit(model, pixels, text, target, EditSettings(steps=2, strength=1))
    assert not torch.equal(one_step.image, one_step.reconstruction)
    assert one_step.region is not None and not one_step.region.all()


def test_a_weight_of_one_changes_nothing_and_another_does(
    model: Any, shown: tuple[Tensor, str]
) -> None:
    pixels, text = shown
    word = text.split()[2]
    same = edit(model, pixels, text, text, EditSettings(**FEW, weights=((word, 1.0),)))
    plain = edit(model, pixels, text, text, EditSettings(**FEW))
    other = edit(model, pixels, text, text, EditSettings(**FEW, weights=((word, 9.0),)))
    assert torch.equal(same.image, plain.image)
    assert not torch.allclose(other.image, plain.image, atol=1e-2)
    with pytest.raises(UsageError, match="--weight: a word is named twice"):
        twice = ((word, 2.0), (f"{word.title()},", 3.0))
        edit(model, pixels, text, text, EditSettings(**FEW, weights=twice))
    with pytest.raises(UsageError, match=r"--weight: the target prompt lacks the word: 'purple'"):
        edit(model, pixels, text, text, EditSettings(**FEW, weights=(("purple", 2.0),)))


def test_regions_are_where_estimates_differ_and_beside() -> None:
    region = ChangeRegion()
    source = torch.zeros(1, 2, 6, 6)
    region.add(source, source)
    assert not region.mask().any()
    target = source.clone()
    target[0, :, 2, 3], target[0, :, 5, 0] = 1.0, 0.4
    region.add(source, target)
    expected = np.zeros((6, 6), bool)
    expected[1:4, 2:5] = True
    assert np.array_equal(region.mask()[0, 0].numpy(), expected)


def test_models_without_cross_attention_are_refused(shown: tuple[Tensor, str]) -> None:
    pixels = given.load("digits-pixels", "cpu", None, None)
    with pytest.raises(ModelError, match=r"cross-attention.*digits-pixels.*U-Net of Stable"):
        edit(pixels, shown[0], "1", "2", EditSettings(**FEW))
