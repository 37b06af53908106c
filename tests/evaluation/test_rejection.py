"""Evaluation with --reject: its figures, its calibration, and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import text_gaussian
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

import diffcls
from diffcls.classifiers import METHODS, fit_images, model_options, rejection
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.open_set import OpenSet
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.plan import build_prompts, choose_images
from diffcls.runs.comparison import compare_runs
from diffcls.runs.leaderboard import COLUMNS
from diffcls.support.errors import DataError, UsageError

LOAD = model_options.load_denoiser
DECISIONS = ("known images accepted", "unknown images rejected")


@pytest.fixture(autouse=True)
def analytic_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejection, "CALIBRATION_IMAGES", 20)
    text_gaussian.use(monkeypatch)


def options(output: Path, **more: Any) -> dict[str, Any]:
    few = {"limit": 16, "draws": 4, "quiet": True, "check_model": False}
    return {"output_dir": str(output), "reject": True, **few, **more}


def records(output: Path, fingerprint: str) -> list[dict[str, Any]]:
    (path,) = (output / "runs" / fingerprint).glob("records-*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_figures_are_those_of_scikit_learn_on_the_posterior_of_none(tmp_path: Path) -> None:
    (row,) = diffcls.run_evaluation(**options(tmp_path))
    assert tuple(row) == COLUMNS and row["n_classes"] == 8
    stored = records(tmp_path, row["fingerprint"])
    header = json.loads((tmp_path / "runs" / row["fingerprint"] / "run.json").read_text())
    scores = header["posterior_scale"] * np.array([r["scores"] for r in stored])
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    none = p[:, -1] / p.sum(axis=1)
    unknown = np.array([r["label"] == 7 for r in stored])
    assert 0 < unknown.sum() < len(stored) == 16
    with open(tmp_path / "rejection.csv", encoding="utf-8", newline="") as file:
        table = {(r["statistic"], r["metric"]): r for r in csv.DictReader(file)}
    found = {metric: table["odds against the background", metric] for metric in ("AUROC", "FPR95")}
    assert float(found["AUROC"]["value"]) == pytest.approx(roc_auc_score(unknown, none), abs=1e-5)
    fpr, tpr, _ = roc_curve(~unknown, -none, drop_intermediate=False)
    assert float(found["FPR95"]["value"]) == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-5)
    assert found["AUROC"]["fingerprint"] == row["fingerprint"]
    shares = {m: float(table["odds against the background", m]["value"]) for m in DECISIONS}
    answers = np.array([r["ranking"][0] == 7 for r in stored])
    assert shares[DECISIONS[0]] == pytest.approx(1 - answers[~unknown].mean(), abs=1e-5)
    assert shares[DECISIONS[1]] == pytest.approx(answers[unknown].mean(), abs=1e-5)
    # the answer of highest posterior is the first of the ranking, none of these included
    assert [r["ranking"][0] for r in stored] == scores.argmax(axis=1).tolist()


def test_repeated_run_scores_nothing_and_has_its_own_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(tmp_path)
    first = diffcls.run_evaluation(**given)
    table = (tmp_path / "rejection.csv").read_bytes()
    monkeypatch.setattr(rejection, "calibrate", lambda *_: pytest.fail("calibrated again"))
    assert diffcls.run_evaluation(**given) == first
    assert (tmp_path / "rejection.csv").read_bytes() == table
    others = [{"reject": False}, {"background_prompt": "a picture"}, {"seed": 1}]
    dry = [diffcls.run_evaluation(**{**given, **o, "dry_run": True})[0] for o in others]
    assert len({row["fingerprint"] for row in [*first, *dry]}) == 4


def test_calibration_never_opens_a_test_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calibration is fitted while every reading of the test split fails."""
    read = EvaluationOptions(**options(tmp_path))
    data, _ = choose_images(read)
    prompts = build_prompts(read, data)
    loaded: list[str] = []
    load = fit_images.load_split

    def checked(options: EvaluationOptions, split: str) -> Dataset:
        assert split != "test", "the calibration reads the test split"
        loaded.append(split)
        return load(options, split)

    monkeypatch.setattr(fit_images, "load_split", checked)
    built = METHODS.load("diffusion").build(read, catalog.find("digits"), prompts)
    assert built.method.posterior_scale > 0
    assert loaded == ["validation"]


def test_dry_run_does_not_calibrate_and_writes_nothing(tmp_path: Path) -> None:
    given = options(tmp_path / "out", dry_run=True)
    (row,) = diffcls.run_evaluation(**given)
    # 7 candidates on 4 draws, and the background
    assert row["evaluations_per_image_at_most"] == 8 * 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_evaluations": 90}, "--reject and --max-evaluations exclude each other"),
        ({"budget": "1h"}, "--reject and --budget exclude each other"),
        ({"save_errors": "tables"}, "--reject and --save-errors exclude each other"),
        ({"multi_label": True}, "--reject and --multi-label exclude each other"),
        ({"split": "validation"}, "--reject is calibrated on the validation images"),
        ({"method": ("diffusion", "clip")}, "--reject is of --method diffusion alone"),
        ({"method": "clip"}, "--reject has no effect here, it is of --method diffusion"),
        ({"background_prompt": "no {}"}, "--background-prompt is one text for all candidates"),
        ({"dataset": "scenes/pairs"}, "--reject needs classes that all images share"),
        ({"vote": "majority"}, "--reject compares log-likelihoods"),
        (
            {"reject": False, "background_prompt": "a photo"},
            "--background-prompt has no effect without --reject or --multi-label",
        ),
    ],
)
def test_combination_without_a_meaning_is_refused(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = options(tmp_path, **given)
    if given.get("method") == "clip":
        arguments = {"method": "clip", "reject": True, "output_dir": str(tmp_path)}
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(**arguments)
    assert not (tmp_path / "leaderboard.csv").exists()


@pytest.mark.slow
def test_several_seeds_are_the_runs_of_single_commands(tmp_path: Path) -> None:
    """Each seed withholds other labels: the images must not be those of the first seed."""
    several = diffcls.run_evaluation(**options(tmp_path / "several", seed=[0, 1]))
    single = [diffcls.run_evaluation(**options(tmp_path / f"{s}", seed=s))[0] for s in (0, 1)]
    assert [r["fingerprint"] for r in several] == [r["fingerprint"] for r in single]
    for seed, row in enumerate(several):
        labels = [
            [(r["image_id"], r["label"], r["scores"]) for r in records(folder, row["fingerprint"])]
            for folder in (tmp_path / "several", tmp_path / f"{seed}")
        ]
        assert sorted(labels[0]) == sorted(labels[1])
    resumed = diffcls.run_evaluation(**options(tmp_path / "several", seed=[1, 0]))
    assert resumed[::-1] == several


def test_runs_of_other_candidates_are_not_compared(tmp_path: Path) -> None:
    runs = [{}, {"seed": 1}, {"reject": False}, {"draws": 6}]
    rows = [diffcls.run_evaluation(**options(tmp_path, **changes))[0] for changes in runs]
    first, other_seed, plain, more_draws = (row["fingerprint"] for row in rows)
    with pytest.raises(UsageError, match="a run with --reject cannot be compared with one without"):
        compare_runs(first, plain, output_dir=tmp_path)
    with pytest.raises(UsageError, match=r"that withhold other labels.*seed=N"):
        compare_runs(first, other_seed, output_dir=tmp_path)
    result = compare_runs(first, more_draws, output_dir=tmp_path)
    assert result.n_classes == 8 and result.n_shared == 16
    assert {image.name_of(7) for image in result.images} <= {"none of these"}
    (one,) = result.differences
    changes = [*one.classes_gained, *one.classes_lost]
    assert sum(c.change for c in changes) == one.n_gained - one.n_lost


def test_calibration_is_part_of_the_announced_cost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = options(tmp_path, quiet=False, search="exhaustive")
    (dry,) = diffcls.run_evaluation(**given, dry_run=True)
    # 20 images, 7 candidates and the background, 4 draws
    assert dry["fit_evaluations"] == 20 * 8 * 4 and dry["fit_seconds"] >= 0
    capfd.readouterr()
    diffcls.run_evaluation(**given)
    assert "diffusion is calibrated first: 640 evaluations" in capfd.readouterr().err
    (dry,) = diffcls.run_evaluation(**given, dry_run=True)
    assert "fit_evaluations" not in dry


def test_indices_of_class_ids_count_the_withheld_classes(tmp_path: Path) -> None:
    read = EvaluationOptions(**options(tmp_path))
    data, _ = choose_images(read)
    prompts = build_prompts(read, data)
    assert isinstance(data, OpenSet) and data.kept != tuple(range(7))
    by_order = rejection.class_ids_of_candidates(read, [""] * 10, prompts)
    assert by_order.prompts == tuple(map(str, data.kept))
    table = tmp_path / "ids.csv"
    table.write_text("classidx,classid\n" + "".join(f"{k},{9 - k}\n" for k in range(10)))
    given = EvaluationOptions(**options(tmp_path, class_ids=str(table)))
    by_file = rejection.class_ids_of_candidates(given, [""] * 10, prompts)
    assert by_file.prompts == tuple(str(9 - k) for k in data.kept)
    assert by_file.class_names == prompts.class_names


def own_images(root: Path, validation: str, test: str) -> str:
    """A folder with images of the classes, a letter each, of two splits."""
    for split, classes in (("validation", validation), ("test", test)):
        for k, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(3):
                shade = Image.new("RGB", (8, 8), (40 * k, 30 * i, 90))
                shade.save(root / split / name / f"{i}.png")
    return f"folder:{root}"


def test_calibration_images_have_the_classes_of_the_test_images(tmp_path: Path) -> None:
    given = {"model": "digits", "limit": None}
    other = own_images(tmp_path / "other", "abcef", "abcde")
    with pytest.raises(DataError, match="classes of split validation are not those of split test"):
        diffcls.run_evaluation(**options(tmp_path, dataset=other, **given))
    names = tmp_path / "names.csv"
    names.write_text("folder,classname\n" + "".join(f"{c},{c}{c}\n" for c in "abcde"))
    same = own_images(tmp_path / "same", "abcde", "abcde")
    renamed = options(tmp_path, dataset=same, classnames=str(names), **given)
    (row,) = diffcls.run_evaluation(**renamed)
    header = json.loads((tmp_path / "runs" / row["fingerprint"] / "run.json").read_text())
    withheld = rejection.options_of(header["spec"]["rejection"])["withheld"]
    assert sorted([*withheld, *header["spec"]["class_names"]]) == [c + c for c in "abcde"]


def test_a_shortlist_of_one_candidate_races_against_the_background(
    tmp_path: Path, tiny_pipeline: Callable[[str], Path]
) -> None:
    """A screen sees the candidates alone; the background is not among its prompts."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(model_options, "load_denoiser", LOAD)
    try:
        given = {"search": "gradient", "candidates": 1, "model": str(tiny_pipeline("v_prediction"))}
        (row,) = diffcls.run_evaluation(**options(tmp_path, draws=2, limit=8, **given))
    finally:
        monkeypatch.undo()
    assert (row["status"], row["n_scored"]) == ("complete", 8)
    for record in records(tmp_path, row["fingerprint"]):
        assert len(record["scores"]) == 8 and record["scores"][-1] is not None
    assert (tmp_path / "rejection.csv").exists()
