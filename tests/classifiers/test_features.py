"""Linear probe on a backbone's features: equal to scikit-learn's on features computed with timm."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers.small_backbone import saved_backbone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import diffcls
from diffcls import evaluate
from diffcls.classifiers import features, linear_probe
from diffcls.data import catalog
from diffcls.data import load as loading_data
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.options import EvaluationOptions
from diffcls.support.errors import UsageError

SIDE = 32


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_backbone(tmp_path_factory.mktemp("backbones"), "test_vit2")


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "leaderboard.csv", newline="", encoding="utf-8") as table:
        return [row for row in csv.DictReader(table) if row["source"] == "measured"]


def test_command_gives_what_timm_and_scikit_learn_give(file: Path, tmp_path: Path) -> None:
    flags = ["--method", "features", "--backbone", f"test_vit2/{file}", "--img-size", str(SIDE)]
    flags += ["--limit", "100", "--quiet", "--output-dir", str(tmp_path)]
    assert evaluate.main(flags) == 0

    overlay = {"file": str(file), "num_classes": 1000}
    model = timm.create_model(
        "test_vit2", True, pretrained_cfg_overlay=overlay, num_classes=0, img_size=SIDE
    ).eval()
    config = {**timm.data.resolve_model_data_config(model), "input_size": (3, SIDE, SIDE)}
    transform = timm.data.create_transform(**config)

    def read(items: Any) -> tuple[Any, Any]:
        pixels = torch.stack([transform(item.open().convert("RGB")) for item in items])
        with torch.inference_mode():
            return model(pixels).double().numpy(), np.array([item.label for item in items])

    x, y = read(load_dataset("digits", "train").items)

    def pipeline(strength: float) -> Any:
        regression = LogisticRegression(C=strength, max_iter=500, tol=1e-3)
        return make_pipeline(StandardScaler(), regression)

    means = {c: cross_val_score(pipeline(c), x, y, cv=3).mean() for c in (1e-3, 1e-2, 1e-1, 1.0)}
    probe = pipeline(max(means, key=lambda c: means[c])).fit(x, y)

    (records,) = tmp_path.glob("runs/*/records-*.jsonl")
    stored = {r["image_id"]: r for r in map(json.loads, records.read_text().splitlines())}
    items = [item for item in load_dataset("digits").items if item.image_id in stored]
    test, labels = read(items)
    scores = np.array([stored[item.image_id]["scores"] for item in items])
    assert scores == pytest.approx(probe.decision_function(test), abs=1e-4)
    (row,) = rows(tmp_path)
    assert float(row["accuracy"]) == pytest.approx(probe.score(test, labels))
    assert probe.score(test, labels) > 0.5  # digits are easy even for random features
    assert (row["supervision"], row["model"], row["n_scored"]) == ("labels", "test_vit2", "100")
    assert (row["setting"], row["evaluations_per_image"]) == ("default", "0.0")


def built(backbone: str, output: Path, **wishes: Any) -> Any:
    options = EvaluationOptions(
        method=("features",), backbone=backbone, output_dir=str(output), batch_size=8, **wishes
    )
    prompts = PromptSet.from_templates(tuple("0123456789"), ("{}",))
    return features.build(options, catalog.find("digits"), prompts)


def test_fit_is_cached_and_batches_change_no_bit(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = {"img_size": SIDE}
    items = load_dataset("digits").items[:11]
    method = built(f"test_vit2/{file}", tmp_path, **wishes).method
    together = {answer.image_id: answer.scores for answer in method.classify(items)}
    monkeypatch.setattr(features, "_fit", None)  # would fail if it were called
    again = built(f"test_vit2/{file}", tmp_path, **wishes).method
    backwards = {answer.image_id: answer.scores for answer in again.classify(items[::-1])}
    (alone,) = again.classify(items[5:6])
    assert len({scores.tobytes() for scores in together.values()}) == 11
    assert all(np.array_equal(together[i], backwards[i]) for i in together)
    assert np.array_equal(alone.scores, together[alone.image_id])


def test_fingerprint_is_of_name_and_weights_and_not_of_the_path(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    other = saved_backbone(tmp_path, "test_vit2", img_size=64)

    def fingerprint(backbone: Path, **wishes: Any) -> str:
        (spec,) = diffcls.run_evaluation(
            method="features",
            backbone=f"test_vit2/{backbone}",
            dry_run=True,
            output_dir=str(tmp_path / "out"),
            **{"img_size": SIDE, **wishes},
        )
        return str(spec["fingerprint"])

    first = fingerprint(file)
    assert fingerprint(copy) == first
    others = {fingerprint(file, **w) for w in ({"img_size": 48}, {"dtype": "bfloat16"})}
    assert len({first, *others, fingerprint(other)}) == 4
    assert not (tmp_path / "out").exists()


def test_strength_is_not_chosen_where_no_class_has_an_image_per_fold() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    assert linear_probe.choose_strength(x, np.arange(6) % 3) == linear_probe.SELECTION_STRENGTH
    assert linear_probe.choose_strength(x, np.arange(6) % 2) in linear_probe.STRENGTHS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--method features needs a backbone.*--backbone, such as vit_small"),
        ({"backbone": "resnet5"}, "unknown backbone: 'resnet5'.*did you mean 'resnet"),
        ({"backbone": "test_vit", "model": "test_vit2"}, "name the same model twice"),
        ({"backbone": "test_vit", "search": "racing"}, "--search has no effect"),
        ({"backbone": "test_vit", "prompts": "prompts.csv"}, "--prompts has no effect"),
        ({"method": "clip", "backbone": "test_vit"}, "--backbone has no effect.*--method features"),
        ({"method": ("clip", "features"), "model": "a"}, "--clip-model, --backbone and"),
        ({"backbone": "test_vit", "dataset": "objectnet"}, "objectnet has no labelled images"),
        ({"method": "diffusion", "search": "propose", "clip_model": "test_vit"}, "unknown CLIP"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_before_anything_is_read(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading_data, "load_split", None)
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(**{"method": "features", "output_dir": str(tmp_path), **options})


def test_model_names_the_backbone_where_no_other_method_has_one(file: Path) -> None:
    options = EvaluationOptions(method=("features",), model=f"test_vit2/{file}")
    assert features.name_of(options) == f"test_vit2/{file}"
