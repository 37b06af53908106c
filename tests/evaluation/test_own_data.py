"""A person's own data before a run: classes, prompts, and what was passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.datasets import no_image
from helpers.image_folders import THREE, tree

from diffcls.data.dataset import Dataset, Item
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.own_data import describe, summary
from diffcls.evaluation.run import run_evaluation

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


def summary_of(names: list[str], templates: tuple[str, ...] = ("a {}.",)) -> list[str]:
    items = (Item("0", 0, no_image),)
    data = Dataset("folder:x", "test", tuple(names), items, "r")
    return summary("folder:x", data, PromptSet.from_templates(names, templates))


def test_ten_classes_are_shown_and_a_prompt_of_two_classes() -> None:
    lines = summary_of([f"c{i}" for i in range(25)], ("a {}.", "the {}."))
    shown = ", ".join(f"c{i}" for i in range(10))
    assert lines == [f"25 classes: {shown}, … (25 in all)", "prompts: 'a c0.', 'a c1.'"]


def test_long_names_with_line_breaks_stay_on_one_line() -> None:
    lines = summary_of(["a\nb", "x" * 500])
    assert lines[0] == f"2 classes: a b, {'x' * 59}…"
    assert all("\n" not in line and len(line) < 160 for line in lines)


def test_counts_come_largest_first_and_ten_kinds_at_most() -> None:
    assert describe({"*.b": 1, "*.a": 1, "*.c": 2000}) == "2,000 *.c, 1 *.a, 1 *.b"
    assert describe({f"*.{i:02d}": 1 for i in range(30)}).endswith("1 *.09, … (30 in all)")


@pytest.mark.parametrize("name", ["digits", "scenes/attributes"])
def test_data_sets_of_the_catalog_have_no_summary(name: str) -> None:
    data = load_dataset(name)
    assert summary(name, data, PromptSet.from_templates(data.class_names, ("{}",))) == []
