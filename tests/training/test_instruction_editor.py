"""Training of instruction editors: where it begins, what it leaves out, and what it writes."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.refusals import refusal
from torch import Tensor

from diffcls import train
from diffcls.models import loading
from diffcls.training.instruction_editor import (
    InstructTraining,
    dropped,
    editor_of,
    encoded_pairs,
    instruct_phase,
)
from diffcls.training.loop import generator
from diffcls.training.recipe_table import INSTRUCT_RECIPES

RECIPE = replace(INSTRUCT_RECIPES["scenes"], images=8, batch=4, pairs=6)


@pytest.fixture(scope="module")
def base() -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(loading.WEIGHTS / "scenes", dtype=torch.float32)


def test_an_editor_begins_with_the_predictions_of_its_model(base: Any) -> None:
    editor = editor_of(copy.deepcopy(base))
    rng = torch.Generator().manual_seed(0)
    x_t, image = torch.randn(2, 2, 8, 8, 8, generator=rng)
    states = torch.randn(2, 24, 96, generator=rng)
    t = torch.tensor([100, 900])
    with torch.inference_mode():
        expected = base.unet(x_t, t, encoder_hidden_states=states).sample
        both = torch.cat([x_t, image], dim=1)
        found = editor.unet(both, t, encoder_hidden_states=states).sample
    assert torch.allclose(found, expected, atol=1e-5)
    assert editor.unet.config.in_channels == 16 and base.unet.config.in_channels == 8


def test_text_image_and_both_are_left_out_as_often_as_they_are_to() -> None:
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    text, image = dropped(uniform, (0.05, 0.1, 0.2))
    assert (text & ~image).float().mean() == pytest.approx(0.05, abs=1e-3)
    assert (image & ~text).float().mean() == pytest.approx(0.1, abs=1e-3)
    assert (image & text).float().mean() == pytest.approx(0.2, abs=1e-3)


def test_latents_of_the_image_are_those_that_plain_diffusers_reads(base: Any) -> None:
    editor = editor_of(copy.deepcopy(base))
    images = torch.rand(4, 3, 32, 32, generator=generator("images")) * 2 - 1
    latents = encoded_pairs(editor.vae, images)
    with torch.inference_mode():
        theirs = editor.prepare_image_latents(images[::2], 2, 1, torch.float32, "cpu", False)
        results = editor.vae.encode(images[1::2]).latent_dist.mode()
    assert torch.allclose(latents[0], theirs, atol=1e-5)
    assert torch.allclose(latents[1], results * editor.vae.config.scaling_factor, atol=1e-5)


def test_what_is_left_out_has_no_influence_on_the_loss(base: Any) -> None:
    editor = editor_of(copy.deepcopy(base))
    with torch.no_grad():
        editor.unet.conv_in.weight.normal_(generator=generator("weights"), std=0.05)
    latents = torch.randn(2, 6, 8, 8, 8, generator=generator("latents"))
    other = latents.clone()
    other[0] += 1  # another image to be edited

    def captions(pair: Tensor, without: Tensor | None, first: int, rng: Any) -> Tensor:
        assert without is not None
        seen.append(without)
        return torch.where(without[:, None], 1, 2).expand(-1, 24)

    losses = {}
    seen: list[Tensor] = []
    for shares in ((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)):
        recipe = replace(RECIPE, dropped=shares)
        with torch.no_grad():
            losses[shares] = [
                float(instruct_phase(editor, z, captions, recipe, 0).loss(3))
                for z in (latents, other)
            ]
    assert losses[0.0, 0.0, 0.0][0] != losses[0.0, 0.0, 0.0][1]
    assert losses[1.0, 0.0, 0.0][0] != losses[1.0, 0.0, 0.0][1]
    assert losses[0.0, 1.0, 0.0][0] == losses[0.0, 1.0, 0.0][1]
    assert losses[0.0, 0.0, 1.0][0] == losses[0.0, 0.0, 1.0][1]
    assert [bool(one.all()) for one in seen[::2]] == [False, False, True, True]


@pytest.mark.slow
def test_a_training_that_was_interrupted_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from safetensors.torch import load_file

    from diffcls.training import loop

    def run(folder: Path) -> dict[str, Any]:
        recipe = replace(RECIPE, images=12)
        return InstructTraining("scenes", recipe, 0, folder, quiet=True, init="scenes").run()

    whole = run(tmp_path / "whole")
    one_step, calls = loop.Loop._one_step, []

    def stops(self: loop.Loop) -> Tensor:
        calls.append(0)
        if len(calls) == 3:
            raise RuntimeError("killed")
        return one_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_one_step", stops)
        patch.setattr(loop.time, "monotonic", iter(range(0, 100_000, 200)).__next__)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path / "begun")
    run(tmp_path / "begun")
    for part in ("unet", "text_encoder"):
        (file,) = (tmp_path / "whole" / part).glob("*.safetensors")
        other = load_file(tmp_path / "begun" / part / file.name)
        weights = load_file(file)
        assert all(torch.equal(weights[name], other[name]) for name in weights)
    card = json.loads((tmp_path / "whole" / loading.CARD).read_text(encoding="utf-8"))
    assert card == json.loads(json.dumps(whole))
    assert card["continued_from"]["name"] == "scenes" and card["recipe"]["pairs"] == 6
    assert "scenes/attributes" in card["trained_on"]
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "whole")
    assert pipeline.unet.config.in_channels == 16 and pipeline.unet.dtype == torch.float32


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--model instruct fine-tunes a text-to-image model; name one with --init"),
        (["--init", "digits-pixels"], "cannot become an instruction editor: 'digits-pixels'"),
        (
            ["--init", "scenes", "--dataset", "digits"],
            "needs pairs of images with an instruction: 'digits'; allowed: scenes",
        ),
        (["--init", "scenes", "--objective", "epsilon"], "--objective does not apply"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ["--dataset", "scenes", "--model", "instruct", "--images", "4", "--quiet"]
    arguments = [*fixed, "--output-dir", tmp_path / "models", *flags]
    assert message in refusal(train.main, arguments, tmp_path / "models", capsys)
