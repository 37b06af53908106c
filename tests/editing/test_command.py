"""``python -m diffcls.edit``: its files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.refusals import refusal
from PIL import Image

from diffcls import edit
from diffcls.data.load import load_dataset


@pytest.fixture
def scene(tmp_path: Path) -> list[str]:
    """Flags that name a saved scene and describe it."""
    data = load_dataset("scenes/attributes", "validation")
    item = data.items[3]
    item.open().save(tmp_path / "scene.png")
    text = data.class_names[item.label]
    return ["--image", str(tmp_path / "scene.png"), "--from", text, "--steps", "6"]


def test_files_of_an_edit(
    scene: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*scene, "--to", "a small blue square", "--output-dir", str(tmp_path), "--json"]
    written = []
    for more in ([], [], ["--guidance", "1"]):
        assert edit.main([*flags, *more]) == 0
        written.append(json.loads(capsys.readouterr().out))
    assert written[0] == written[1]  # the same edit: nothing new
    assert not set(written[0]["files"]) & set(written[2]["files"])
    picture, strip, attention, settings = (Path(file) for file in written[0]["files"])
    assert Image.open(picture).size == (32, 32)
    assert Image.open(strip).width > 2 * 190
    shown = Image.open(attention)
    assert shown.width > 5 * 190 and shown.height > 2 * 190  # the image and four words, twice
    stored: dict[str, Any] = json.loads(settings.read_text(encoding="utf-8"))
    assert (stored["target"], stored["steps"], stored["guidance"]) == ("a small blue square", 6, 2)
    assert stored["model"][0] == "scenes" and 0 < stored["changed_share"] < 1


def test_equal_prompts_keep_the_image(scene: list[str], tmp_path: Path) -> None:
    assert edit.main([*scene, "--to", scene[3], "--output-dir", str(tmp_path)]) == 0
    (strip,) = tmp_path.glob("edits/*-strip.png")
    pixels = np.asarray(Image.open(strip).convert("RGB")).astype(int)
    half = pixels.shape[1] // 2
    before, after = pixels[24:, 4 : half - 2], pixels[24:, half + 2 : -4]
    assert np.abs(before - after[:, : before.shape[1]]).max() <= 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weight", "blue"], "--weight: invalid value: 'blue'; allowed: WORD=FACTOR, 0 to 100"),
        (["--weight", "blue=-1"], "--weight: invalid value: 'blue=-1'"),
        (["--weight", "purple=2"], "--weight: the target prompt lacks the word: 'purple'"),
        (["--steps", "1"], "--steps out of range: 1"),
        (["--keep-words", "1.5"], "--keep-words out of range: 1.5"),
        (["--strength", "1.5"], "--strength out of range: 1.5"),
        (["--to", " "], "--to is empty"),
        (["--model", "digits-pixels"], "prompts edit models with cross-attention"),
        (["--model", "nosuch"], "nosuch"),
        (["--image", "nosuch.png"], "nosuch.png"),
    ],
)
def test_what_cannot_be_edited_is_refused(
    scene: list[str],
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = [*scene, "--to", "a small blue square", "--output-dir", tmp_path / "out"]
    assert message in refusal(edit.main, [*fixed, *flags], None, capsys)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").rglob("*.png"))


def test_files_of_an_instructed_edit(
    scene: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*scene[:2], "--instruction", "make the orange square blue", "--steps", "4"]
    written = []
    for more in ([], [], ["--seed", "1"], ["--image-guidance", "1"]):
        assert edit.main([*flags, *more, "--output-dir", str(tmp_path), "--json"]) == 0
        written.append(json.loads(capsys.readouterr().out))
    assert written[0] == written[1]  # the same edit: nothing new
    names = [set(one["files"]) for one in written[1:]]
    assert not names[0] & names[1] and not names[1] & names[2] and not names[0] & names[2]
    picture, strip, settings = (Path(file) for file in written[0]["files"])
    assert Image.open(picture).size == (32, 32) and Image.open(strip).width > 2 * 190
    stored: dict[str, Any] = json.loads(settings.read_text(encoding="utf-8"))
    assert stored["instruction"] == "make the orange square blue" and stored["seed"] == 0
    assert stored["model"][0] == "scenes-instruct" and 0 < stored["changed_pixels"] < 1


PROMPTS = ["--from", "a red square", "--to", "a blue square"]
WORDS = ["--instruction", "make the square blue"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([*WORDS, *PROMPTS], "--from and --to cannot be combined with --instruction"),
        ([*WORDS, "--strength", "0.5"], "--strength cannot be combined with --instruction"),
        ([*WORDS, "--no-keep-surroundings"], "--keep-surroundings cannot be combined with"),
        ([*PROMPTS, "--image-guidance", "2"], "--image-guidance cannot be used without --instr"),
        ([*PROMPTS, "--seed", "2"], "--seed cannot be used without --instruction"),
        (["--from", "a red square"], "an edit needs --from and --to, or --instruction"),
        ([], "an edit needs --from and --to, or --instruction"),
        (["--instruction", " "], "--instruction is empty"),
        ([*WORDS, "--image-guidance", "-1"], "--image-guidance out of range: -1"),
        ([*WORDS, "--steps", "1"], "--steps out of range: 1"),
        ([*WORDS, "--seed", "-1"], "--seed out of range: -1"),
        ([*WORDS, "--model", "scenes"], "the model follows no instructions: its network reads no"),
        ([*WORDS, "--model", "digits-pixels"], "a class-conditional model reads no words"),
        (
            [*WORDS, "--model", "fashion_mnist-pixels-unconditional"],
            "follows no instructions: an unconditional model reads no words",
        ),
        ([*PROMPTS, "--model", "scenes-instruct"], "it edits images by an instruction"),
        ([*WORDS, "--image", "nosuch.png"], "nosuch.png"),
    ],
)
def test_what_cannot_be_instructed_is_refused(
    scene: list[str],
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = [*scene[:2], "--output-dir", tmp_path / "out"]
    assert message in refusal(edit.main, [*fixed, *flags], None, capsys)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").rglob("*.png"))
