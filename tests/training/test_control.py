"""ControlNets: trained by the command in seconds, resumed, loaded by diffusers, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.interrupted_trainings import interrupt_calls
from safetensors.torch import load_file

from diffcls import train
from diffcls.data.load import load_dataset
from diffcls.models import control_files, loading
from diffcls.training import control_losses, recipe_table
from diffcls.training.control import WEIGHTS
from diffcls.training.fine_tuned_recipes import ControlRecipe

pytest.importorskip("cv2")

BATCH = 4
TINY = ControlRecipe(model="scenes", images=4 * BATCH, batch=BATCH)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight scenes in two classes."""
    folder = tmp_path_factory.mktemp("data")
    items = load_dataset("scenes/attributes", "validation").items
    for split in ("train", "val"):
        for i in range(8):
            place = folder / split / ("circle" if i % 2 else "square")
            place.mkdir(parents=True, exist_ok=True)
            items[i].open().save(place / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def _of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_table, "ANY_CONTROL_RECIPE", TINY)


def run(folder: Path, data: Path, *flags: str) -> int:
    common = ["--dataset", f"folder:{data}", "--output-dir", str(folder), "--points", "1"]
    return train.main([*common, "--model", "control", "--quiet", *flags])


def trained(folder: Path) -> Path:
    (place,) = folder.glob("control-*")
    return place


def same(one: Path, other: Path) -> bool:
    mine, theirs = (load_file(folder / WEIGHTS) for folder in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_a_controlnet_is_trained_resumed_and_loaded_by_plain_diffusers(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffusers import ControlNetModel

    base = loading.WEIGHTS / "scenes" / "unet" / WEIGHTS
    before = base.read_bytes()
    assert run(tmp_path / "whole", data) == 0
    assert "--control canny --control-model" in capsys.readouterr().out
    folder = trained(tmp_path / "whole")
    loaded = ControlNetModel.from_pretrained(folder)
    # it has left its zero convolutions, and is a copy of the encoder otherwise
    assert loaded.controlnet_mid_block.weight.detach().any()
    assert base.read_bytes() == before
    card: dict[str, Any] = json.loads((folder / loading.CARD).read_text(encoding="utf-8"))
    assert card["trained_with"] == "scenes"
    assert card["recipe"]["control"] == "canny"
    assert card["curve"][-1]["plain_validation_loss"] > 0
    files = control_files.find(str(folder))
    assert (files.kind, files.trained_with, files.control) == ("ControlNetModel", "scenes", "canny")

    interrupt_calls(monkeypatch, control_losses, "noised", {3})  # in the loss of the third step
    assert [run(tmp_path / "cut", data) for _ in range(2)] == [130, 0]
    assert same(folder, trained(tmp_path / "cut"))
    stored = trained(tmp_path / "cut") / "training" / "recipe.json"
    plan = json.loads(stored.read_text(encoding="utf-8"))
    assert plan["trained_with_revision"] == card["trained_with_revision"]
    assert plan["data_revision"] == load_dataset(f"folder:{data}", "train").revision


def test_an_untrained_controlnet_changes_no_bit_of_the_steered_model() -> None:
    steered: Any = loading.load("scenes")
    for recipe in (TINY, ControlRecipe(model="scenes", middle_attention=True)):
        control = control_losses.build_control_net(steered.network, recipe)
        generator = torch.Generator().manual_seed(0)
        x_t = torch.randn(2, *steered.sample_shape, generator=generator)
        maps = torch.rand(2, 3, 32, 32, generator=generator)
        text = steered.encode_prompts(["a red circle", ""])["text"]
        t = torch.tensor([3.0, 900.0])
        with torch.inference_mode():
            out = control_losses.controlled(control, steered.network, x_t, t, text, maps)
            assert torch.equal(out, steered.network(x_t, t, text).sample)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lead", "digits-pixels"], "needs a Stable Diffusion"),
        (["--init", "no-such-net"], "ControlNet"),
        (["--without", "circle"], "does not apply"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    flags: list[str], words: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, data, *flags) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("control-*/training"))
