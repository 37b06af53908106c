"""CLIP_benchmark's schema: rows come back as its own build reads them, foreign files strictly."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.measured_rows import measured_row as row

from diffcls.runs import leaderboard
from diffcls.runs.clip_benchmark import read_results, result_of, skipped_text
from diffcls.runs.row import cells_of, values_of
from diffcls.support.errors import DiffclsError


def build(folder: Path) -> pd.DataFrame:
    """The table of `clip_benchmark build FOLDER`: its row is the metrics, then all other keys."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        one: dict[str, Any] = {**data["metrics"], **data}
        del one["metrics"]
        one["model_fullname"] = one["model"] + " " + one["pretrained"]
        rows.append(one)
    names = sorted({name for one in rows for name in one})
    with open(folder / "benchmark.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return pd.read_csv(folder / "benchmark.csv")


def write(folder: Path, *results: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for i, result in enumerate(results):
        (folder / f"{i}.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


def theirs(**changes: Any) -> dict[str, Any]:
    metrics = {"acc1": 0.9057, "acc5": 0.9943, "mean_per_class_recall": 0.9051}
    named = {"dataset": "wds/vtab/pets", "model": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}
    result = {**named, "task": "zeroshot_classification", "metrics": metrics, "language": "en"}
    return result | changes


def test_their_build_reads_the_same_numbers(tmp_path: Path) -> None:
    rows = [row(), row(dataset="imagenet", n_classes=1000, accuracy=0.6139)]
    rows.append(row(dataset="folder:two", n_classes=2, top5=None))
    table = build(write(tmp_path / "results", *map(result_of, rows)))
    assert list(table["dataset"]) == ["vtab/pets", "imagenet1k", "folder:two"]
    assert list(table["acc1"]) == [0.8725, 0.6139, 0.8725]
    assert list(table["acc5"])[:2] == [0.985, 0.985] and math.isnan(table["acc5"][2])
    assert set(table["mean_per_class_recall"]) == {0.8695}
    assert set(table["task"]) == {"zeroshot_classification"} and set(table["language"]) == {"en"}
    assert set(table["model_fullname"]) == {"sd2-base 1e128c8"}


def test_five_classes_have_a_top_5_accuracy_of_one() -> None:
    assert result_of(row(n_classes=5, top5=None))["metrics"]["acc5"] == 1.0


@pytest.mark.parametrize(
    ("changes", "task", "name"),
    [
        ({"supervision": "labels", "method": "features"}, "linear_probe", "lp_acc1"),
        ({"supervision": "labels", "method": "reference"}, "supervised_classification", "acc1"),
        (
            {"supervision": "model trained on this data set"},
            "supervised_classification",
            "acc1",
        ),
        ({"supervision": "unknown"}, "zeroshot_classification", "acc1"),
    ],
)
def test_trained_models_are_never_called_zero_shot(
    changes: dict[str, Any], task: str, name: str
) -> None:
    result = result_of(row(**changes))
    assert result["task"] == task and result["metrics"][name] == 0.8725


def test_a_clip_model_has_its_two_names() -> None:
    result = result_of(row(method="clip", model="ViT-L-14/openai"))
    assert (result["model"], result["pretrained"]) == ("ViT-L-14", "openai")


@pytest.mark.parametrize("as_csv", [False, True])
def test_their_results_become_published_rows(as_csv: bool, tmp_path: Path) -> None:
    folder = write(tmp_path / "results", theirs(), theirs(dataset="imagenet1k"))
    if as_csv:
        build(folder)
        for path in folder.glob("*.json"):
            path.unlink()
    read = read_results(folder)
    assert [one["dataset"] for one in read.rows] == ["pets", "imagenet"] and not read.skipped
    first = read.rows[0]
    assert first["source"] == "published" and first["fingerprint"] is None
    assert first["model"] == "ViT-B-32/laion2b_s34b_b79k" and first["supervision"] == "zero-shot"
    assert (first["accuracy"], first["top5"]) == (0.9057, 0.9943)
    assert first["mean_per_class"] == 0.9051 and first["n_classes"] == 37
    assert first["ci_low"] is None  # their files do not say of how many images


def test_ones_own_results_come_back(tmp_path: Path) -> None:
    rows = [row(), row(search="paper"), row(method="clip", model="ViT-L-14/openai", search=None)]
    read = read_results(write(tmp_path / "results", *map(result_of, rows)))
    for one, own in zip(read.rows, rows, strict=True):
        for name in ("dataset", "method", "model", "search", "supervision", "accuracy", "ci_low"):
            assert one[name] == own[name]  # type: ignore[literal-required]
        assert one["source"] == "published"


def test_results_of_other_tasks_and_data_sets_are_skipped_by_name(tmp_path: Path) -> None:
    others = [theirs(dataset="sun397"), theirs(dataset="cars"), theirs(task="captioning")]
    read = read_results(write(tmp_path / "results", theirs(), *others))
    assert len(read.rows) == 1
    assert skipped_text(read.skipped).endswith(
        "data set cars (1), data set sun397 (1), task captioning (1)"
    )


def test_the_same_result_twice_counts_once_and_two_that_differ_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "results", theirs(), theirs(dataset="vtab/pets"))
    assert len(read_results(folder).rows) == 1
    other = {**theirs()["metrics"], "acc1": 0.91}
    write(folder, theirs(), theirs(metrics=other))
    with pytest.raises(DiffclsError, match="two results of ViT-B-32/laion2b_s34b_b79k on pets"):
        read_results(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no result of CLIP_benchmark"),
        ("[1]", "no object with metrics"),
        ("\xff", "no result of CLIP_benchmark"),
        (json.dumps(theirs(metrics={"acc1": 87.3})), "acc1 is no fraction.*87.3"),
        (json.dumps(theirs(metrics={"acc1": math.nan})), "acc1 is no fraction"),
        (json.dumps(theirs(metrics={"acc1": True})), "acc1 is no fraction"),
        (json.dumps(theirs(metrics={"acc1": "high"})), "acc1 is no fraction"),
        (json.dumps(theirs(metrics={})), "acc1 is no fraction"),
        (json.dumps(theirs(model=None)), "lacks model"),
    ],
)
def test_what_is_no_result_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DiffclsError, match=message) as refused:
        read_results(tmp_path)
    assert "one.json" in str(refused.value) and "\n" not in str(refused.value).strip()


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DiffclsError, match="--clip-benchmark"):
            read_results(path)


def test_saved_rows_stand_behind_the_measured_ones_once(tmp_path: Path) -> None:
    table = tmp_path / "leaderboard.csv"
    leaderboard.upsert(table, [row()])
    imported = read_results(write(tmp_path / "results", theirs())).rows
    for _ in range(2):
        leaderboard.put_published(table, imported)
    leaderboard.upsert(table, [row(fingerprint="f" * 16)])
    assert [one["source"] for one in leaderboard.read(table)] == ["measured"] * 2 + ["published"]


def test_a_row_comes_back_from_its_cells() -> None:
    assert values_of(cells_of(row())) == row()
