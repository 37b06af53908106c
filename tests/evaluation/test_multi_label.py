"""Evaluation with --multi-label: its figures, its threshold, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import text_gaussian
from sklearn.metrics import average_precision_score, f1_score

import diffcls
from diffcls.data.load import load_dataset
from diffcls.evaluation import multi_label
from diffcls.evaluation.run import FailedRuns
from diffcls.models import devices
from diffcls.support.errors import ModelError, UsageError

IMAGES, VALIDATION = 24, 12


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_label, "VALIDATION_IMAGES", VALIDATION)
    monkeypatch.setattr(multi_label, "RESAMPLES", 20)
    text_gaussian.use(monkeypatch)


def options(output: Path, **more: Any) -> dict[str, Any]:
    given = {"dataset": "scenes/relations", "multi_label": True, "limit": IMAGES, "draws": 2}
    return {"output_dir": str(output), "quiet": True, **given, **more}


def test_figures_are_those_of_scikit_learn_and_the_threshold_of_validation_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores: list[multi_label.LabelScores] = []
    measured = multi_label.label_scores

    def kept(*arguments: Any) -> multi_label.LabelScores:
        scores.append(measured(*arguments))
        return scores[-1]

    monkeypatch.setattr(multi_label, "label_scores", kept)
    rows = diffcls.run_evaluation(**options(tmp_path))
    of_validation, of_test = scores
    assert (len(of_validation.log_odds), len(of_test.log_odds)) == (VALIDATION, IMAGES)
    data = load_dataset("scenes/relations", "test")
    sentences = [data.class_names[item.label] for item in data.items]
    present = np.array([[label[2:] in s for label in of_test.labels] for s in sentences])
    assert set(map(tuple, of_test.present)) <= set(map(tuple, present))
    used = of_test.present.any(axis=0)
    expected = average_precision_score(of_test.present[:, used], of_test.log_odds[:, used])
    figures = {(row["metric"], row["label"]): row["value"] for row in rows}
    assert figures["mAP", ""] == pytest.approx(expected, abs=1e-9)
    threshold = multi_label.fit_threshold(of_validation.present, of_validation.log_odds)
    assigned = of_test.log_odds >= threshold
    each = f1_score(of_test.present, assigned, average=None, zero_division=0)
    for label, f1 in zip(of_test.labels, each, strict=True):
        assert figures["F1", label] == pytest.approx(f1, abs=1e-9)
    assert rows[0]["evaluations_per_image"] == 2 * (len(of_test.labels) + 1)


def test_threshold_does_not_depend_on_the_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    figures = multi_label.figures

    def kept(*arguments: Any) -> list[dict[str, Any]]:
        seen.append(arguments[-1])
        return figures(*arguments)

    monkeypatch.setattr(multi_label, "figures", kept)
    for limit in (6, 12):
        given = options(tmp_path, limit=limit)
        diffcls.run_evaluation(**given)
    assert seen[0] == seen[1]


def test_negations_are_prompts_of_their_own(tmp_path: Path) -> None:
    given = options(tmp_path, limit=4)
    (first, *_) = diffcls.run_evaluation(**given, background_prompt="no {}")
    assert first["evaluations_per_image"] == 2 * 2 * first["n_labels"]
    (other, *_) = diffcls.run_evaluation(**given)
    assert other["fingerprint"] != first["fingerprint"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "digits"}, "--multi-label needs a data set with several labels per image"),
        ({"search": "racing"}, "--multi-label decides each label by itself"),
        ({"confidence": 0.9}, "--confidence has no effect with --multi-label"),
        ({"vote": "rank"}, "--multi-label compares mean errors"),
        ({"aggregate": "prompts"}, "--multi-label compares mean errors"),
        ({"shard": "0/2"}, "--shard has no effect with --multi-label"),
        ({"split": "validation"}, "--multi-label fits its threshold on the validation images"),
        ({"method": ("diffusion", "clip")}, "--multi-label is of --method diffusion alone"),
    ],
)
def test_option_without_effect_is_refused(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(**options(tmp_path, **given))


@pytest.mark.parametrize(
    "launcher",
    [
        {"RANK": "1", "WORLD_SIZE": "2"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"},
        {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "3"},
    ],
)
def test_one_of_several_processes_is_refused_before_it_scores(
    launcher: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_label, "label_scores", lambda *_: pytest.fail("scored"))
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    given = " ".join(f"{name}={value}" for name, value in launcher.items() if "STEP" not in name)
    with pytest.raises(UsageError, match=f"each would do the whole work: '{given}'"):
        diffcls.run_evaluation(**options(tmp_path))


def test_the_only_process_of_a_launcher_scores_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    (row, *_) = diffcls.run_evaluation(**options(tmp_path, limit=4))
    assert row["n"] == 4


def test_no_data_set_is_scored_if_another_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_label, "label_scores", lambda *_: pytest.fail("scored"))
    message = "several labels per image.*refused for --dataset digits"
    with pytest.raises(UsageError, match=message):
        diffcls.run_evaluation(**options(tmp_path, dataset=["scenes/relations", "digits"]))


def test_a_failed_run_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = multi_label.label_scores

    def fails_once(options: Any, *rest: Any) -> Any:
        if options.seed == 0:
            raise ModelError("no memory")
        return scored(options, *rest)

    monkeypatch.setattr(multi_label, "label_scores", fails_once)
    with pytest.raises(FailedRuns, match=r"1 of 2 runs failed: .*--seed 0.*no memory") as failed:
        diffcls.run_evaluation(**options(tmp_path, limit=4, seed=[0, 1]))
    assert {row["seed"] for row in failed.value.rows} == {1}
    with pytest.raises(ModelError, match="no memory"):
        diffcls.run_evaluation(**options(tmp_path, limit=4))


def test_scores_of_an_accelerator_are_kept_apart_and_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--dtype auto`` is another precision there, so its scores are not those of the CPU."""
    given = options(tmp_path, limit=4)
    (on_cpu, *_) = diffcls.run_evaluation(**given, device="cpu")
    monkeypatch.setattr(devices, "dtype_without_torch", lambda *_: None)
    monkeypatch.setattr(devices, "resolve_device", lambda _: "cpu")
    (without, *_) = diffcls.run_evaluation(**given)
    monkeypatch.setattr(devices, "resolve_device", lambda _: "cuda:0")
    monkeypatch.setattr(multi_label, "describe_device", lambda device: f"a GPU at {device}")
    (on_gpu, *_) = diffcls.run_evaluation(**given)
    assert on_gpu["device"] == "a GPU at cuda:0"
    assert on_gpu["fingerprint"] != on_cpu["fingerprint"] == without["fingerprint"]
