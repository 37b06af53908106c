"""Counterfactuals: the smallest edit that convinces, its files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.refusals import refusal
from PIL import Image

import diffcls
from diffcls import counterfactual as command
from diffcls.data.load import load_dataset
from diffcls.data.transforms import load_image, to_image, to_pixels
from diffcls.editing.counterfactual import STRENGTHS, convinces, counterfactual, strengths
from diffcls.editing.edit import edit, edited_steps
from diffcls.editing.options import EditSettings
from diffcls.models import given
from diffcls.support.errors import DataError, ModelError, UsageError

LABELS = ("a small orange square", "a small blue square", "a small orange circle")
SETTINGS = EditSettings(steps=8)


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    data = load_dataset("scenes/attributes", "validation")
    assert data.class_names[data.items[3].label] == LABELS[0]
    return data.items[3].open()


def found_by(judge: Any, scene: Image.Image, target: int = 1) -> Any:
    model = given.load("scenes", "cpu", None, None)
    pixels = torch.from_numpy(to_pixels(load_image(scene), 32))
    return counterfactual(model, pixels, LABELS, LABELS, 0, target, judge, SETTINGS)


def test_the_weakest_convincing_edit_is_taken_and_the_way_to_it_kept(scene: Image.Image) -> None:
    seen: list[torch.Tensor] = []

    def judge(pixels: torch.Tensor) -> np.ndarray:
        """Is convinced by the fourth edit."""
        seen.append(pixels)
        return np.array([0.1, 0.8, 0.1] if len(seen) == 5 else [0.9, 0.1, 0.0])

    found = found_by(judge, scene)
    tried = strengths(SETTINGS.steps - 1)
    assert found.is_convincing and found.is_edited and found.strength == tried[3]
    assert [step.strength for step in found.steps] == [0.0, *tried[:4]]
    assert all(torch.equal(a.image, b) for a, b in zip(found.steps, seen, strict=True))
    # each is the edit of that strength
    model = given.load("scenes", "cpu", None, None)
    pixels = torch.from_numpy(to_pixels(load_image(scene), 32))
    same = edit(model, pixels, *LABELS[:2], EditSettings(steps=8, strength=tried[3]))
    assert torch.equal(found.image, same.image)
    assert torch.equal(found.steps[0].image, same.reconstruction)


@pytest.mark.slow
def test_without_a_convincing_edit_the_strongest_one_is_kept(scene: Image.Image) -> None:
    found = found_by(lambda _: np.array([0.6, 0.4, 0.0]), scene)
    assert not found.is_convincing and found.strength == 1.0 and len(found.steps) == 8
    assert convinces(np.array([0.2, 0.5, 0.3]), 1) and not convinces(np.array([0.3, 0.4, 0.3]), 1)


def test_share_of_changed_pixels_is_that_of_more_than_ten_grey_values(scene: Image.Image) -> None:
    answers = iter([np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])])
    found = found_by(lambda _: next(answers), scene)
    gap = (found.image - found.steps[0].image).abs().amax(dim=0) * 127.5
    assert found.changed == pytest.approx(float((gap > 10).float().mean()))
    assert len(found.steps) == 2  # the weakest edit


def test_an_image_that_convinces_once_it_is_decoded_is_not_edited(scene: Image.Image) -> None:
    found = found_by(lambda _: np.array([0.1, 0.9, 0.0]), scene)
    assert found.is_convincing and not found.is_edited
    assert (found.strength, found.changed, len(found.steps)) == (0.0, 0.0, 1)


def test_every_strength_that_is_tried_edits_more_steps_than_the_one_before() -> None:
    assert strengths(49) == list(STRENGTHS)
    assert strengths(1) == [1.0] and strengths(2) == [0.5, 1.0]
    for steps in range(1, 30):
        counts = [edited_steps(steps, one) for one in strengths(steps)]
        assert counts == sorted(set(counts)) and counts[-1] == steps


# ---- the classifier ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier() -> diffcls.ZeroShotImageClassifier:
    return diffcls.ZeroShotImageClassifier.from_pretrained("scenes", draws=8)


def test_the_classifier_that_asks_is_convinced(
    classifier: diffcls.ZeroShotImageClassifier, scene: Image.Image, tmp_path: Path
) -> None:
    before: Any = classifier(scene, LABELS, "{}")
    assert before[0]["label"] == LABELS[0]
    found = classifier.counterfactual(scene, LABELS[1], steps=12)  # labels and template as before
    assert found.labels == LABELS and (found.label, found.target) == (0, 1)
    assert found.is_convincing and 0 < found.changed < 0.3
    found.save(tmp_path / "way.png")
    width, height = Image.open(tmp_path / "way.png").size
    assert width > len(found.steps) * 190 and height > 200
    # the saved picture is what the classifier has seen
    answer: Any = classifier(to_image(found.image), LABELS, "{}")
    assert answer[0]["label"] == LABELS[1]
    assert answer[0]["score"] == pytest.approx(found.steps[-1].posterior[1])
    with pytest.raises(UsageError, match=r"ending of the file is unknown.*\.png"):
        found.save(tmp_path / "way.jpg")


def test_what_cannot_be_asked_is_refused(
    classifier: diffcls.ZeroShotImageClassifier, scene: Image.Image
) -> None:
    ask = classifier.counterfactual
    with pytest.raises(UsageError, match=r"label is no candidate: 'a dog'"):
        ask(scene, "a dog", LABELS)
    with pytest.raises(UsageError, match="the image has this label already"):
        ask(scene, LABELS[0], LABELS, "{}")
    with pytest.raises(UsageError, match="steps out of range"):
        ask(scene, LABELS[1], LABELS, "{}", steps=1)
    with pytest.raises(DataError, match="nosuch"):
        ask("nosuch.png", LABELS[1], LABELS, "{}")
    fresh = diffcls.ZeroShotImageClassifier.from_pretrained("scenes")
    with pytest.raises(UsageError, match="a counterfactual needs candidate labels"):
        fresh.counterfactual(scene, LABELS[1])
    pixels = diffcls.ZeroShotImageClassifier.from_pretrained("digits-pixels")
    with pytest.raises(ModelError, match=r"cross-attention.*digits-pixels"):
        pixels.counterfactual(scene, "seven", ["seven", "one"])


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture
def flags(scene: Image.Image, tmp_path: Path) -> list[str]:
    scene.save(tmp_path / "scene.png")
    image = ["--image", str(tmp_path / "scene.png"), "--labels", *LABELS]
    return [*image, "--model", "scenes", "--template", "{}", "--steps", "8"]


def test_files_and_lines_of_the_command(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*flags, "--to", LABELS[1], "--output-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"the classifier says {LABELS[1]} at strength" in shown
    picture, strip, facts = (Path(line) for line in shown.strip().splitlines()[-3:])
    assert Image.open(picture).size == (32, 32) and Image.open(strip).width > 380
    stored = json.loads(facts.read_text(encoding="utf-8"))
    assert (stored["label"], stored["target"]) == LABELS[:2] and stored["is_convincing"] is True
    first, last = stored["steps_tried"][0], stored["steps_tried"][-1]
    assert first["strength"] == 0 and first["posterior"][LABELS[0]] > 0.5
    assert last["strength"] == stored["strength"] and last["posterior"][LABELS[1]] >= 0.5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--to", "a dog"], "--to is none of --labels: 'a dog'"),
        (["--to", LABELS[0]], "the image has this label already"),
        (["--to", LABELS[1], "--steps", "1"], "--steps out of range: 1"),
        (["--to", LABELS[1], "--model", "nosuch"], "nosuch"),
        (["--to", LABELS[1], "--image", "nosuch.png"], "nosuch.png"),
    ],
)
def test_bad_usage_of_the_command(
    flags: list[str],
    more: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given_flags = [*flags, *more, "--output-dir", tmp_path / "out"]
    assert message in refusal(command.main, given_flags, None, capsys)
    assert not any((tmp_path / "out").rglob("*.png"))
