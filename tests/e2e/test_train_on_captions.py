"""Training on captioned images, from the folder to its row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.captioned_images import captions

from diffcls import train
from diffcls.classifiers import validation
from diffcls.evaluation.run import run_evaluation
from diffcls.models.small_stable_diffusion import TinyConfig
from diffcls.search.exhaustive import Exhaustive
from diffcls.training import latent_diffusion, recipe_table
from diffcls.training.recipes import Recipe


@pytest.mark.slow
def test_model_trained_on_captioned_images_classifies_among_ten_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = TinyConfig(
        vae_channels=(8, 8, 8), unet_channels=(8, 16), text_width=16, text_layers=1, vocabulary=560
    )
    recipe = Recipe(config=small, vae_images=64, images=64, batch=32)
    monkeypatch.setattr(recipe_table, "ANY_RECIPE", recipe)
    monkeypatch.setattr(latent_diffusion, "VOCABULARY_CAPTIONS", 50)
    monkeypatch.setattr(validation, "Racing", lambda *_: Exhaustive(draws=1))
    folder = captions(tmp_path / "captioned")
    models = tmp_path / "models"
    status = train.main(
        ["--dataset", f"folder:{folder}", "--output-dir", str(models), "--quiet", "--threads", "1"]
    )
    assert status == 0
    assert "validation accuracy" in capsys.readouterr().out
    card = json.loads((models / "captioned" / "diffcls.json").read_text(encoding="utf-8"))
    assert card["trained_on"] == ["folder:captioned"]
    assert card["data"]["images"] == 22
    row = run_evaluation(
        dataset=f"folder:{folder}",
        model=str(models / "captioned"),
        output_dir=str(tmp_path / "results"),
        search="exhaustive",
        draws=2,
        check_model=False,
        quiet=True,
    )[0]
    assert (row["n_scored"], row["n_classes"]) == (24, 10)
    assert row["evaluations_per_image"] == 2 * (10 + 1)  # ten sentences, and the empty prompt
    assert row["supervision"] == "model trained on this data set"
