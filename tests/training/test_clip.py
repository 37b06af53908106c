"""CLIP training: batch statistics, and the model that the command leaves."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from helpers.small_clip import SMALL

from diffcls import train
from diffcls.models import clip
from diffcls.training import clip as clip_trainer
from diffcls.training import recipe_table
from diffcls.training import run as training_run


def test_statistics_are_those_of_the_weights_for_a_while() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    norm = module[0]
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    parts = list(torch.randn(4, 8, 3, 5, 5, generator=torch.Generator().manual_seed(0)))
    with clip_trainer.recomputed_statistics(module, iter(parts)):
        means, variances = (
            torch.stack([of(part, dim=(0, 2, 3)) for part in parts]).mean(dim=0)
            for of in (torch.mean, torch.var)
        )
        assert torch.allclose(norm.running_mean, means, atol=1e-6)
        assert torch.allclose(norm.running_var, variances, atol=1e-6)
        assert not norm.training
    after = norm.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert norm.momentum == 0.1


@pytest.mark.slow
def test_train_command_makes_a_clip_that_open_clip_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(recipe_table.CLIP_RECIPES, "digits", SMALL)  # type: ignore[misc]
    monkeypatch.setattr(clip_trainer, "VOCABULARY_CAPTIONS", 300)
    monkeypatch.setattr(clip_trainer, "STATISTICS_BATCHES", 2)
    monkeypatch.setattr(training_run.Loop.run, "__defaults__", (None, 1))
    learn = ["--dataset", "digits", "--model", "clip", "--images", "256", "--quiet"]
    flags = [*learn, "--output-dir", str(tmp_path)]
    assert train.main(flags) == 0
    assert "--method clip" in capsys.readouterr().out
    made = tmp_path / "clip-digits"
    card = json.loads((made / "diffcls.json").read_text(encoding="utf-8"))
    assert card["trained_on"] == ["digits"] and card["recipe"]["images"] == 256
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{made}")
    assert model.visual.image_size == 32
    assert train.main(flags) == 2  # a finished model is never overwritten
    assert "already contains a trained model" in capsys.readouterr().err
    # and fine-tuning it elsewhere gives other weights
    more = tmp_path / "more"
    assert train.main([*learn, "--output-dir", str(more), "--init", str(made)]) == 0
    later = json.loads((more / "clip-digits/diffcls.json").read_text(encoding="utf-8"))
    before = {"name": "clip-digits", "revision": clip.load(str(made)).card.revision, "images": 256}
    assert before.items() <= later["continued_from"].items()
    assert clip.load(str(more / "clip-digits")).card.revision != before["revision"]
