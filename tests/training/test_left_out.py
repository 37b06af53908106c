"""Trainings without some classes: their data, validation, folder, recipe and card."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diffcls import train
from diffcls.classifiers.validation import ZeroShotValidator, benchmark_sample, validators
from diffcls.data import load
from diffcls.support.errors import UsageError
from diffcls.training import latent_diffusion
from diffcls.training.model_card import data_facts, left_out
from diffcls.training.options import TrainingOptions, open_training
from diffcls.training.run import TrainingRun


def training(folder: Path, **options: Any) -> TrainingRun:
    given = TrainingOptions(dataset="digits", output_dir=str(folder), quiet=True, **options)
    return open_training(given, partial(validators, without=given.without or ()))


@pytest.mark.parametrize("kind", ["diffusion", "clip"])
def test_no_image_of_a_class_that_is_left_out_is_trained_or_validated(
    tmp_path: Path, kind: str
) -> None:
    whole, part = training(tmp_path, model=kind), training(tmp_path, model=kind, without=["7", "1"])
    images = part.training_data()
    assert {images.class_names[i.label] for i in images.items} == set("02345689")
    assert len(images) == sum(i.label not in (1, 7) for i in whole.training_data().items)
    for split in ("validation", "test"):
        data, prompts = benchmark_sample("digits", split, None, None, ("7", "1"))
        assert prompts.class_names == data.class_names == tuple("02345689")
        assert {i.label for i in data.items} == set(range(8))
    if kind == "diffusion":
        assert part.validators is not None
        for callback in (part.validators.curve, part.validators.finished):
            assert isinstance(callback, ZeroShotValidator) and callback.without == ("7", "1")


def test_the_model_is_another_one_with_its_own_folder_command_and_card(tmp_path: Path) -> None:
    whole, part = training(tmp_path), training(tmp_path, without=["7", "1"])
    assert part.folder == tmp_path / "digits-without-7-1" and whole.folder == tmp_path / "digits"
    assert "--dataset digits --without 7 1" in part.command
    plans = [json.loads(run._recipe_text) for run in (whole, part)]
    assert plans[1].pop("without") == ["1", "7"] and plans[0] == plans[1]
    facts = data_facts(part.training_data(), part.without)
    assert facts["without"] == ["7", "1"] and facts["images"] == len(part.training_data())
    assert left_out(facts) == "- Without the classes 7, 1, in training and validation.\n"
    assert "without" not in data_facts(whole.training_data()) and left_out({}) == ""


def test_an_interrupted_training_is_not_resumed_with_other_classes(tmp_path: Path) -> None:
    part = training(tmp_path, without=["7"])
    part.begin()
    recipe = part.work / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"7"', '"8"'))
    with pytest.raises(UsageError, match=r"training with another recipe.*without"):
        training(tmp_path, without=["7"])


def test_what_has_no_classes_to_leave_out_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, message in {
        ("--dataset", "scenes", "--without", "a red square"): "--without needs a data set",
        ("--model", "pixels", "--without", "7"): "--without does not apply to --model pixels",
        ("--without", "seven", "--quiet"): "unknown class of digits: 'seven'",
    }.items():
        assert train.main([*flags, "--output-dir", str(tmp_path / "refused")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


def test_the_report_names_trained_classes_and_reads_the_local_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = training(tmp_path, without=["7", "1"], data_root=str(tmp_path))
    half = SimpleNamespace(accuracy=0.5, labels=(0, 2))
    part.validators = SimpleNamespace(finished=lambda _, split: half)  # type: ignore[assignment]
    read: list[object] = []

    def load_dataset(*given: object) -> object:
        read.append(given)
        return load.load_dataset("digits", "validation")

    monkeypatch.setattr(latent_diffusion, "load_dataset", load_dataset)
    monkeypatch.setattr(latent_diffusion, "load", lambda _: None)
    monkeypatch.setattr(latent_diffusion, "samples", lambda _, names, template: [*names])
    lines = part.report({"validation_accuracy": 0.25})
    assert lines[1:9] == list("02345689") and "test accuracy 50.0% on 2" in lines[10]
    assert read == [("digits", "validation", str(tmp_path))]
