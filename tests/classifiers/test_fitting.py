"""Cost of fits: what is announced is what is computed, and nothing where the fit is cached."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import diffcls
from diffcls import evaluate
from diffcls.classifiers import fitting, labelled_data, sd_features, synthetic
from diffcls.classifiers.fitting import FitCost
from diffcls.data import catalog
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.total_cost import TotalCost
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.models.unet_features import FeatureReader
from diffcls.support import progress
from diffcls.training import recipe_table
from diffcls.training.recipes import Recipe

Pipelines = Callable[[str], Path]
SECONDS_PER_EVALUATION, SECONDS_OF_TRAINING = 0.25, 600.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of a known speed."""
    for module in (fitting, synthetic):
        monkeypatch.setattr(
            module, "seconds_per_evaluation", lambda denoiser: SECONDS_PER_EVALUATION
        )
    for place in ("synthetic", "reference"):
        monkeypatch.setattr(
            f"diffcls.classifiers.{place}.training_seconds", lambda *_: SECONDS_OF_TRAINING
        )


def dry(**options: Any) -> dict[str, Any]:
    (row,) = diffcls.run_evaluation(dry_run=True, limit=4, quiet=True, **options)
    return row


def test_announced_evaluations_of_a_linear_probe_are_those_of_its_fit(
    tiny_pipeline: Pipelines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(labelled_data, "MAX_TRAINING_IMAGES", 60)
    monkeypatch.setattr(sd_features, "MAX_SELECTION_IMAGES", 40)
    monkeypatch.setattr(sd_features, "TIMES", (0.1, 0.2))
    monkeypatch.setattr(sd_features, "GRIDS", (1,))
    options = {"method": "sd-features", "model": str(tiny_pipeline("v_prediction"))}
    options |= {"output_dir": str(tmp_path), "threads": 1}  # type: ignore[dict-item]
    announced = dry(**options)
    count = 0
    read = FeatureReader.read

    def counted(reader: FeatureReader, x0: torch.Tensor, *rest: Any) -> Any:
        nonlocal count
        count += len(x0)
        return read(reader, x0, *rest)

    monkeypatch.setattr(FeatureReader, "read", counted)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    capsys.readouterr()
    diffcls.run_evaluation(**options, limit=4, batch_size=4)
    total = f"{announced['fit_evaluations']:,}"
    lines = [x for x in capsys.readouterr().err.splitlines() if "fitting sd-features:" in x]
    assert lines[-1] == f"diffcls: fitting sd-features: {total} of {total} evaluations"
    assert count - 4 == announced["fit_evaluations"] > 0  # less those of the scored images
    assert announced["fit_seconds"] == announced["fit_evaluations"] * SECONDS_PER_EVALUATION
    assert announced["fit_images"] == 0
    # it is in the cache now
    assert "fit_evaluations" not in dry(**options)


class Counting(GaussianDenoiser):
    """Counts the rows of its forward passes."""

    rows = 0

    def predict(self, x_t: torch.Tensor, *rest: Any) -> torch.Tensor:
        self.rows += len(x_t)
        return super().predict(x_t, *rest)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_announced_evaluations_of_synthetic_are_those_of_its_generation(
    scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipe_table.RECIPES, "digits", Recipe(images=9600))  # type: ignore[misc]
    names = ("", "red", "blue")
    denoiser = Counting({name: torch.full((3, 8, 8), 0.1 * i) for i, name in enumerate(names)}, 0.1)
    monkeypatch.setattr(synthetic.model_options, "load_denoiser", lambda *_: (denoiser, "cpu"))
    prompts = PromptSet(("warm", "cold"), ("red", "blue"), (0, 1))
    options = EvaluationOptions(
        guidance=scale, images_per_class=32, output_dir=str(tmp_path), method="synthetic"
    )
    built = synthetic.build(options, catalog.find("digits"), prompts)
    assert built.fitting is not None and not built.fitting.is_done()
    cost = built.fitting.cost()
    denoiser.rows = 0
    synthetic.generate(denoiser, prompts, 32, scale, 8, seed=0, quiet=True)
    assert cost.evaluations == denoiser.rows == 64 * synthetic.STEPS * (2 if scale == 2.0 else 1)
    assert cost.training_images == 9600
    generation = cost.evaluations * SECONDS_PER_EVALUATION
    assert cost.seconds == generation + SECONDS_OF_TRAINING


def test_cost_of_a_fit_is_announced_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(recipe_table.RECIPES, "digits", Recipe(images=128))  # type: ignore[misc]
    flags = ["--method", "reference", "--limit", "4", "--output-dir", str(tmp_path)]
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert evaluate.main(flags) == 0
    lines = capsys.readouterr().err.splitlines()
    first = "diffcls: reference is fitted first: training on up to 128 images: up to 10 min"
    assert lines[0] == first
    for work in ("reading train images: 1,", "reading validation images: ", "classifier: 1 of 1 "):
        assert any(line.startswith(f"diffcls: {work}") for line in lines), work
    assert lines[-1].startswith("diffcls: digits reference: 4 of 4 img, accuracy ")
    monkeypatch.undo()
    monkeypatch.setitem(recipe_table.RECIPES, "digits", Recipe(images=128))  # type: ignore[misc]
    assert evaluate.main([*flags, "--seed", "1", "--quiet"]) == 0
    assert "fitted first" not in capsys.readouterr().err
    # a fit that is cached costs nothing, and its run is not announced
    assert evaluate.main([*flags, "--limit", "5"]) == 0
    assert "fitted first" not in capsys.readouterr().err


def test_total_cost_of_several_runs_has_their_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(recipe_table.RECIPES, "digits", Recipe(images=128))  # type: ignore[misc]
    flags = ["--method", "reference", "--seed", "0", "1", "2", "--limit", "4", "--dry-run"]
    assert evaluate.main([*flags, "--output-dir", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert [row["fit_images"] for row in json.loads(captured.out)] == [128] * 3
    assert "3 runs; 12 images, 0 evaluations at most: 30 min at most in total" in captured.err


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (FitCost(12_000, 0, 100.0), "12,000 evaluations: about 100 s"),
        (FitCost(0, 500_000, 7200.0), "training on up to 500,000 images: up to 2.0 h"),
        (FitCost(10, 20, 1.0), "10 evaluations and training on up to 20 images: up to 1 s"),
    ],
)
def test_costs_are_described(cost: FitCost, text: str) -> None:
    assert str(cost) == text


def test_total_names_finished_and_unknown_runs() -> None:
    total = TotalCost()
    total.add(None)
    assert total.text(None, 3, None) == (
        "3 runs, 2 finished before; 0 images, 0 evaluations at most: 0 s at most in total, "
        "without 1 whose cost is not known"
    )
    assert "60 s at most in total" in TotalCost(runs=2, seconds=9000.0).text("30s", 2, None)
