"""The command ``python -m diffcls.checkpoints``, on the checkpoints of a training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: F401  (this file needs it)

from diffcls import checkpoints
from diffcls.classifiers.validation import ZeroShotValidator
from diffcls.models.small_stable_diffusion import TinyConfig
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.racing import Racing
from diffcls.training import latent_diffusion, recipe_table
from diffcls.training.options import TrainingOptions, open_training
from diffcls.training.recipes import Recipe
from diffcls.training.validation import CURVE_DRAWS, CURVE_IMAGES, Validators

SMALL = Recipe(
    config=TinyConfig(
        vae_channels=(8, 8, 8), unet_channels=(8, 16), text_width=16, text_layers=1, vocabulary=600
    ),
    copies=2,
    vae_images=2048,
    images=8192,
    batch=32,
    learning_rate=4e-3,
    ema=0.97,
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_checkpoints_of_a_training_show_the_curve_of_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(recipe_table.RECIPES, "digits", SMALL)  # type: ignore[misc]
    monkeypatch.setattr(latent_diffusion, "VOCABULARY_CAPTIONS", 300)

    def validators(benchmark: str, data_root: str | None, seed: int) -> Validators:
        """The curve as `diffcls.train` measures it; a quick end."""
        limits = {"validation": CURVE_IMAGES}
        return Validators(
            ZeroShotValidator(benchmark, Racing(CURVE_DRAWS), limits, data_root, seed),
            ZeroShotValidator(benchmark, Exhaustive(draws=1), limits, data_root, seed),
        )

    options = TrainingOptions(output_dir=str(tmp_path), quiet=True, points=3, seed=5)
    card = open_training(replace(options), validators).run()
    curve = [(point["images"], point["validation_accuracy"]) for point in card["curve"]]
    assert len(curve) == 3 and len({accuracy for _, accuracy in curve}) > 1

    def measured(*flags: str) -> Any:
        output = ["--output-dir", str(tmp_path / "results"), "--quiet"]
        assert checkpoints.main([str(tmp_path / "digits"), *output, *flags]) == 0
        return capsys.readouterr()

    rows = json.loads(measured("--json").out)
    assert [(row["training_images"], row["curve_accuracy"]) for row in rows] == curve
    # snapshots hold the weights in half precision, which may turn a near-tie
    one_image = 1.5 / CURVE_IMAGES
    assert all(abs(row["accuracy"] - row["curve_accuracy"]) < one_image for row in rows)
    assert {row["seed"] for row in rows} == {5}

    table = measured().out
    assert "card's curve" in table


def test_the_command_prints_a_table_and_writes_csv_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    table, picture = tmp_path / "table.csv", tmp_path / "out" / "checkpoints.png"
    flags = ["--limit", "4", "--draws", "2", "--quiet", "--output-dir", str(tmp_path / "out")]
    assert checkpoints.main(["digits", *flags, "--csv", str(table)]) == 0
    said = capsys.readouterr()
    head, _, line = said.out.splitlines()
    assert head.split()[:2] == ["checkpoint", "images"] and line.split()[:2] == [
        "digits",
        "480,000",
    ]
    assert said.err == f"diffcls: plot: {picture}\n"
    assert picture.is_file()
    assert table.read_text().splitlines()[1].startswith("digits,digits,480000,digits,validation,0,")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        "out",
        "table.csv",
    ]


def test_what_is_no_checkpoint_is_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output-dir", str(tmp_path / "out")]
    for given, says in (
        (["nosuch"], "unknown model: 'nosuch'"),
        ([str(tmp_path)], "no checkpoint found"),
        (["digits", "--plot", "plot.txt"], "--plot cannot write this file"),
        (["digits", "--count", "20"], "--count is of --metrics FID"),
    ):
        assert checkpoints.main([*given, *output]) == 2
        assert says in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
