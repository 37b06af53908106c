"""A person's own data before a run: classes, prompts, and what was passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.image_folders import THREE, tree

from diffcls.__main__ import COMMANDS
from diffcls.evaluation.run import run_evaluation
from diffcls.training.pixel_diffusion import PixelTraining
from diffcls.training.recipes import PixelRecipe

LINES = [
    "diffcls: 3 classes: cat, dog, red_panda",
    "diffcls: prompts: 'a photo of a cat.', 'a photo of a dog.'",
    "diffcls: passed over: 2 *.txt, 1 hidden or system files and folders",
]


@pytest.fixture
def photos(tmp_path: Path) -> str:
    name = tree(tmp_path / "photos", [path.replace("owl", "red_panda") for path in THREE])
    tree(tmp_path / "photos", ["cat/notes.txt", "dog/notes.txt", ".DS_Store"], b"")
    return name


def evaluate(dataset: str, folder: Path, **options: Any) -> dict[str, Any]:
    options = {"method": ["clip"], "clip_model": "clip-digits", **options}
    row, *_ = run_evaluation(dataset=dataset, output_dir=str(folder / "results"), **options)
    return row


@pytest.mark.parametrize("quiet", [False, True])
def test_three_lines_come_before_a_run_and_none_before_a_finished_one(
    tmp_path: Path, photos: str, capfd: pytest.CaptureFixture[str], quiet: bool
) -> None:
    evaluate(photos, tmp_path, quiet=quiet)
    printed = capfd.readouterr().err.splitlines()
    assert [line for line in printed if line.startswith("diffcls: ")][:3] == LINES
    evaluate(photos, tmp_path, quiet=quiet)
    assert not set(capfd.readouterr().err.splitlines()) & set(LINES)


def test_lines_come_once_for_several_methods_and_not_for_bundled_data(
    tmp_path: Path, photos: str, capfd: pytest.CaptureFixture[str]
) -> None:
    methods = {"method": ["clip", "diffusion"], "model": "digits", "check_model": False}
    evaluate(photos, tmp_path, **methods, draws=1, limit=2)
    printed = capfd.readouterr().err.splitlines()
    assert [printed.count(line) for line in LINES] == [1, 1, 1]
    evaluate("digits", tmp_path, limit=2)
    assert "classes:" not in capfd.readouterr().err


def test_dry_run_has_all_classes_prompts_and_counts(tmp_path: Path, photos: str) -> None:
    row = evaluate(photos, tmp_path, dry_run=True)
    assert row["classes"] == ["cat", "dog", "red_panda"]
    assert row["prompts"] == [f"a photo of a {name}." for name in ("cat", "dog", "red panda")]
    assert row["passed_over"] == {"hidden or system files and folders": 1, "*.txt": 2}


@pytest.mark.parametrize(
    "command",
    [
        "likelihood --model digits --levels 2 --limit 2",
        "fidelity --model digits --steps 1 --count 10 --metrics precision --extractor clip-digits",
    ],
)
def test_other_commands_on_own_data_say_what_was_passed_over(
    tmp_path: Path, photos: str, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    name, *flags = command.split()
    run = COMMANDS.load(name)
    run([*flags, "--dataset", photos, "--output-dir", str(tmp_path / "out"), "--quiet"])
    printed = capfd.readouterr().err.splitlines()
    assert [printed.count(line) for line in (LINES[0], LINES[2])] == [1, 1], printed


def test_a_training_on_own_data_says_what_was_passed_over(
    tmp_path: Path, photos: str, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = PixelRecipe(image_size=8, widths=(8, 16), images=16, batch=16)
    training = PixelTraining(photos, recipe, seed=0, folder=tmp_path / "model")
    assert training.training_data().class_names == ("cat", "dog", "red_panda")
    assert capfd.readouterr().err.splitlines() == [LINES[0], LINES[2]]
