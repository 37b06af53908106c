"""Samples given maps against diffusers' own pipeline with a ControlNet, from the same noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import control_nets
from PIL import Image

from diffcls import generate
from diffcls.generation.sample import noise_of, sample
from diffcls.models import control, given

STEPS = 10  # 999 levels are divided by 9 steps, so both paths have the same whole timesteps
SCALE = 2.0
PROMPTS = ["a small red circle", "a large blue square"]


@pytest.fixture(scope="module")
def plain() -> Any:
    return given.load("scenes", "cpu", None, None)


@pytest.fixture(scope="module")
def net(plain: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(control_nets.save("sd1", plain.pipeline, tmp_path_factory.mktemp("net")))


@torch.inference_mode()
def test_samples_are_those_of_the_pipeline_of_diffusers(plain: Any, net: str) -> None:
    from diffusers import (
        ControlNetModel,
        EulerDiscreteScheduler,
        StableDiffusionControlNetPipeline,
    )

    maps = control_nets.maps(2, 32)
    steered = control.steered(plain, net)
    encoded = control.encoded(steered, maps)
    (ours,) = sample(
        steered, PROMPTS, [0, 1], scale=SCALE, steps=STEPS, sampler="euler", batch_size=2,
        maps=encoded,
    )  # fmt: skip
    parts = {k: v for k, v in plain.pipeline.components.items() if k != "scheduler"}
    scheduler = EulerDiscreteScheduler.from_config(
        plain.pipeline.scheduler.config, timestep_spacing="linspace"
    )
    pipeline = StableDiffusionControlNetPipeline(
        **parts,
        scheduler=scheduler,
        controlnet=ControlNetModel.from_pretrained(net),
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPTS,
        image=maps,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        latents=noise_of(plain, 0, [0, 1]),
        output_type="pt",
    ).images
    torch.testing.assert_close((ours.images + 1) / 2, theirs, rtol=0, atol=2e-3)
    (without,) = sample(plain, PROMPTS, [0, 1], scale=SCALE, steps=STEPS, sampler="euler")
    assert float((ours.images - without.images).abs().mean()) > 0.02  # the maps count


def test_an_image_depends_on_its_own_map_alone(plain: Any, net: str) -> None:
    steered = control.steered(plain, net)
    encoded = control.encoded(steered, control_nets.maps(2, 32))
    settings: dict[str, Any] = {"steps": 2, "batch_size": 2}
    (both,) = sample(steered, PROMPTS, [0, 1], maps=encoded, **settings)
    (other,) = sample(steered, PROMPTS, [0, 1], maps=torch.stack([encoded[0]] * 2), **settings)
    assert torch.equal(both.images[0], other.images[0])
    assert not torch.equal(both.images[1], other.images[1])


def test_the_command_takes_images_and_names_what_decided(
    net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2")
    picture = Image.new("RGB", (32, 32))
    picture.paste((255, 255, 255), (8, 8, 24, 24))
    picture.save(tmp_path / "square.png")
    flags = ["--model", "scenes", "--prompt", "a red square", "--count", "1", "--steps", "2"]
    flags += ["--control-model", net, "--output-dir", str(tmp_path / "out"), "--json", "--quiet"]
    folders = []
    for text in (f"{tmp_path}/square.png", f"canny:{tmp_path}/square.png"):
        assert generate.main([*flags, "--control", text]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["control"] == ("canny" if text.startswith("canny") else "maps")
        folders.append(result["folder"])
    assert len(set(folders)) == 2


def test_maps_that_no_image_has_are_counted(
    net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        Image.new("L", (32, 32), 60 * i).save(tmp_path / f"{i}.png")
    flags = ["--model", "scenes", "--prompt", "a red square", "--steps", "2", "--quiet"]
    flags += ["--control", str(tmp_path), "--control-model", net]
    flags += ["--output-dir", str(tmp_path / "out")]
    notices = []
    for count in ("1", "3"):
        assert generate.main([*flags, "--count", count]) == 0
        lines = capsys.readouterr().err.splitlines()
        notices.append([line for line in lines if "--control" in line])
    assert len(notices[0]) == 1 and "1 image of 3 maps" in notices[0][0]
    assert not notices[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--control", "/no/such/file.png"], "file not found"),
        (["--control", "canny:"], "no path"),
        (["--control", "maps:"], "no path"),
        (["--control-model", "control-scenes"], "needs --control"),
        (["--control", "MAP", "--guide", "clip"], "cannot be combined with --guide"),
        (["--control", "MAP", "--model", "digits"], "needs a ControlNet of the model"),
        (["--control", "MAP", "--model", "digits-pixels"], "no ControlNet steers models"),
    ],
)
def test_what_cannot_be_controlled_is_refused(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (32, 32)).save(tmp_path / "map.png")
    given_flags = [f"{tmp_path}/map.png" if flag == "MAP" else flag for flag in flags]
    model = [] if "--model" in flags else ["--model", "scenes"]
    assert generate.main([*model, *given_flags, "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
