"""Comparison of checkpoints: its figures are those of an independent count over the records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from scipy.stats import binomtest

from diffcls.evaluation import run as evaluation_run
from diffcls.evaluation.checkpoints import compare_checkpoints, paired
from diffcls.support.errors import UsageError


@pytest.fixture(scope="module")
def models(tiny_pipeline: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints with other weights each."""
    from safetensors.torch import load_file, save_file

    shelf = tmp_path_factory.mktemp("checkpoints")
    for number in (1, 2, 3):
        folder = Path(copytree(tiny_pipeline("v_prediction"), shelf / f"checkpoint-{number}"))
        path = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights = load_file(path)
        weights["conv_out.weight"] = weights["conv_out.weight"] + 0.3 * number
        save_file({k: v.contiguous() for k, v in weights.items()}, path, {"format": "pt"})
    return shelf


def compared(models: Path, output: Path, **changes: Any) -> Any:
    options: dict[str, Any] = {"dataset": "digits", "limit": 20, "draws": 2, "quiet": True}
    options |= {"checkpoints": [str(models)], "output_dir": str(output), "threads": 1}
    return compare_checkpoints(**{**options, **changes})


@pytest.fixture(scope="module")
def output(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    compared(models, folder)
    return folder


@pytest.mark.slow
def test_accuracies_and_tests_are_those_of_a_count_over_the_records(
    models: Path, output: Path
) -> None:
    rows = compared(models, output).rows
    answers = []
    for row in rows:
        path = output / "runs" / row["accuracy_fingerprint"] / "records-0-of-1.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        answers.append({r["image_id"]: r["ranking"][0] == r["label"] for r in records})
    assert [row["checkpoint"] for row in rows] == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert [row["accuracy"] for row in rows] == [sum(a.values()) / 20 for a in answers]
    assert len({row["accuracy"] for row in rows}) > 1
    assert all(row["accuracy_n_scored"] == row["accuracy_n_asked"] == 20 for row in rows)

    def p(a: dict[str, bool], b: dict[str, bool]) -> float:
        gained = sum(b[image] and not a[image] for image in a)
        lost = sum(a[image] and not b[image] for image in a)
        return binomtest(gained, gained + lost).pvalue if gained + lost else 1.0

    first, second, third = answers
    assert [row["accuracy_p_previous"] for row in rows] == [
        None,
        pytest.approx(p(first, second)),
        pytest.approx(p(second, third)),
    ]
    assert [row["accuracy_p_last"] for row in rows] == [
        pytest.approx(p(first, third)),
        pytest.approx(p(second, third)),
        None,
    ]
    change = rows[1]["accuracy"] - rows[0]["accuracy"]
    assert rows[1]["accuracy_difference"] == pytest.approx(change)


def test_finished_checkpoints_are_not_measured_again(
    models: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compared(models, output).rows

    def loaded(*_: object) -> None:
        raise AssertionError("a finished run was made again")

    monkeypatch.setattr(evaluation_run, "make_plan", loaded)
    assert compared(models, output).rows == before


def test_all_images_are_compared_by_a_process_of_a_launcher(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    checkpoints = [str(models / "checkpoint-1")]
    (row,) = compared(models, tmp_path, checkpoints=checkpoints, limit=4, draws=1).rows
    assert row["accuracy_n_scored"] == row["accuracy_n_asked"] == 4


@pytest.mark.slow
def test_a_bound_is_measured_once_and_autoencoders_are_compared(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffcls.generation import dataset_likelihood

    options: dict[str, Any] = {"metrics": ["bits-per-dim"], "limit": 3}
    table = compared(models, tmp_path, **options)
    assert table.metrics == ("bits_per_dim",) and table.notes == ()
    assert len({row["bits_per_dim"] for row in table.rows}) == 3
    alone = dataset_likelihood.estimate_likelihood(
        model=str(models / "checkpoint-2"),
        dataset="digits",
        split="validation",
        limit=3,
        quiet=True,
    )
    assert table.rows[1]["bits_per_dim"] == pytest.approx(alone.value)
    monkeypatch.setattr(dataset_likelihood, "estimate_likelihood", None)
    assert compared(models, tmp_path, **options).rows == table.rows


def test_differences_are_taken_on_the_images_of_both() -> None:
    before = {"a": True, "b": False, "c": False, "only here": True}
    after = {"a": True, "b": True, "c": True, "only there": False}
    difference, p = paired(before, after)
    assert difference == pytest.approx(2 / 3)
    assert p == pytest.approx(binomtest(2, 2).pvalue)
    assert paired({"a": True}, {"b": True}) == (None, None)


def test_options_without_effect_and_unknown_names_are_refused(models: Path, tmp_path: Path) -> None:
    for changes, says in (
        ({"metrics": ["acuracy"]}, "accuracy"),
        ({"count": 20}, "--metrics FID"),
        ({"limit": 0}, "--limit out of range"),
        ({"data_root": "/x"}, "--data-root is not read by digits"),
        ({"data_root": "/x", "metrics": ["accuracy", "counting"]}, "not read by digits, scenes"),
        ({"dataset": None}, "no common data set"),
        ({"checkpoints": []}, "--checkpoints is empty"),
    ):
        with pytest.raises(UsageError, match=says):
            compared(models, tmp_path, **changes)
    assert not any(tmp_path.iterdir())
    assert torch.get_num_threads() >= 1
