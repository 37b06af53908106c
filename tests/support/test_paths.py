"""Paths that people give: ``~`` in every option that is a path."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from diffcls.support.errors import UsageError
from diffcls.support.paths import expand

OPTIONS = {
    "diffcls.evaluation.options": "EvaluationOptions",
    "diffcls.generation.images": "GenerationOptions",
    "diffcls.generation.fidelity_options": "FidelityOptions",
    "diffcls.generation.dataset_likelihood": "LikelihoodOptions",
    "diffcls.training.options": "TrainingOptions",
}
PATH_NAME = re.compile(r"dir|root|path|folder|file|^(dataset|indices|lora|real|generated)$")

NEEDED = {"guide_model": {"guide": "classifier"}, "generated": {"real": "photos"}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def test_home_is_expanded_at_the_start_and_behind_a_prefix(home: Path) -> None:
    assert expand("~") == str(home)
    assert expand("~/a b") == os.path.join(str(home), "a b")
    assert expand("folder:~/x") == f"folder:{home}/x"
    assert expand(Path("~/x")) == home / "x"


@pytest.mark.parametrize("text", ["", "a~b", "./~", "x/~/y", "~no such user/x", "hf:me/~x", "a: ~"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert expand(text) == text


@pytest.mark.parametrize(("module", "name"), OPTIONS.items())
def test_every_option_that_is_a_path_is_expanded(module: str, name: str, home: Path) -> None:
    options: Any = getattr(importlib.import_module(module), name)
    fields = [f for f in dataclasses.fields(options) if "UserPath" in str(f.type)]
    assert {f.name for f in dataclasses.fields(options) if PATH_NAME.search(f.name)} <= {
        f.name for f in fields
    }
    for field in fields:
        if field.name == "interpolate":
            continue  # its files must exist
        made = options(**{field.name: "~/x"}, **NEEDED.get(field.name, {}))
        several = "Sequence" in str(field.type)
        assert getattr(made, field.name) == ((f"{home}/x",) if several else f"{home}/x")


def test_files_to_interpolate_between_are_expanded(home: Path) -> None:
    from diffcls.generation.images import GenerationOptions

    for name in ("a.png", "b.png"):
        (home / name).touch()
    options = GenerationOptions(interpolate=("~/a.png", Path("~/b.png")))
    assert options.interpolate == (f"{home}/a.png", home / "b.png")


def test_images_and_data_sets_of_the_home_folder_are_read(home: Path) -> None:
    from PIL import Image

    from diffcls.data.load import load_dataset
    from diffcls.data.transforms import load_image

    for name in ("cat", "dog"):
        (home / "photos" / name).mkdir(parents=True)
        Image.new("L", (2, 2)).save(home / "photos" / name / "1.png")
    assert load_dataset("folder:~/photos").class_names == ("cat", "dog")
    assert load_image("~/photos/cat/1.png").size == (2, 2)


def test_folder_with_the_name_of_a_tilde_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from diffcls.data.load import load_dataset

    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        Path("./~", name).mkdir(parents=True)
        Image.new("L", (2, 2)).save(tmp_path / "~" / name / "1.png")
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    data = load_dataset("folder:./~")
    assert [item.open().size for item in data.items] == [(2, 2)] * 2


@pytest.mark.parametrize("command", ["fidelity", "likelihood"])
def test_output_folder_of_a_command_is_expanded(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="the commands need it")
    from diffcls.runs import fidelity_table

    checked: list[Path] = []

    def check(table: Path) -> None:
        checked.append(table)
        raise UsageError("stop here")

    monkeypatch.setattr(fidelity_table, "check", check)
    assert importlib.import_module(f"diffcls.{command}").main(["--output-dir=~/res"]) == 2
    assert checked == [home / "res" / "fidelity.csv"]
