"""Replayed tables give what a run of its own gives, without the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffcls
from diffcls import replay
from diffcls.errors import DataError, UsageError
from diffcls.records import Record, read_records
from diffcls.replaying import learn, read_saved
from diffcls.replaying import replay as replayed

Pipelines = Callable[[str], Path]
DRAWS = 8


@pytest.fixture(scope="module")
def run(tiny_pipeline: Pipelines, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs an evaluation of eight images: (its row, its records by image)."""
    out = tmp_path_factory.mktemp("replay")

    def evaluate(**wishes: Any) -> tuple[dict[str, Any], dict[str, Record]]:
        options = {"limit": 8, "draws": DRAWS, "check_model": False, "quiet": True, **wishes}
        (row,) = diffcls.run_evaluation(
            model=str(tiny_pipeline("v_prediction")), output_dir=str(out), **options
        )
        files = (out / "runs" / row["fingerprint"]).glob("records-*.jsonl")
        return row, {r.image_id: r for file in files for r in read_records(file)}

    return evaluate


@pytest.fixture(scope="module")
def tables(run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Full tables of the eight images."""
    folder = tmp_path_factory.mktemp("tables") / "digits"
    run(search="exhaustive", save_errors=str(folder))
    return folder


@pytest.mark.parametrize(
    ("search", "weighting", "vote"),
    [
        ("exhaustive", "uniform", "mean"),
        ("racing", "uniform", "mean"),
        ("halving", "uniform", "mean"),
        ("exhaustive", "v", "mean"),
        ("exhaustive", "vlb", "mean"),
        ("racing", "truncated-snr", "mean"),
        ("exhaustive", "uniform", "rank"),
        ("racing", "uniform", "majority"),
    ],
)
def test_replay_is_the_run_itself(
    search: str, weighting: str, vote: str, run: Callable[..., Any], tables: Path
) -> None:
    row, records = run(search=search, weighting=weighting, vote=vote)
    (again,) = replayed(tables, [search], [weighting], [vote])
    assert again["evaluations_per_image"] == row["evaluations_per_image"]
    assert again["accuracy"] == row["accuracy"]
    assert (again["ci_low"], again["ci_high"]) == (row["ci_low"], row["ci_high"])
    saved = read_saved(tables)
    assert set(saved.image_ids) == set(records)


def test_others_are_compared_with_the_first(tables: Path) -> None:
    first, *others = replayed(tables, ["exhaustive", "racing"], ["uniform", "snr"], ["mean"])
    assert (first["agreement"], first["p"]) == (1.0, 1.0)
    assert [(r["search"], r["weighting"]) for r in others] == [
        ("exhaustive", "snr"),
        ("racing", "uniform"),
        ("racing", "snr"),
    ]


def test_fewer_draws_are_the_first_ones(run: Callable[..., Any], tables: Path) -> None:
    row, _ = run(search="exhaustive", draws=3)
    (again,) = replayed(tables, ["exhaustive"], draws=3)
    assert again["accuracy"] == row["accuracy"] and again["evaluations_per_image"] == 30


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--search", "paper"], "other draws than the search 'paper' asks for"),
        (["--search", "exhaustive", "--draws", "9"], "other draws"),
        (["--search", "racing", "halfing"], "did you mean 'halving'"),
        (["--vote", "best"], "unknown vote"),
        (["--weighting", "snrs"], "unknown weighting"),
        (["--weighting", "none.json"], "cannot read a weighting"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    flags: list[str], message: str, tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay.main([str(tables), *flags]) == 2
    assert message in capsys.readouterr().err


def test_errors_that_were_not_saved_are_missed(run: Callable[..., Any], tmp_path: Path) -> None:
    run(search="halving", save_errors=str(tmp_path / "some"))
    with pytest.raises(UsageError, match="asks for errors that were not saved"):
        replayed(tmp_path / "some", ["exhaustive"])


def test_folder_that_holds_no_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder of error tables"):
        read_saved(tmp_path)


def test_damaged_table_is_named(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(search="exhaustive", limit=2, draws=2, save_errors=str(tmp_path / "t"))
    path = sorted((tmp_path / "t").rglob("*.npz"))[0]
    path.write_bytes(path.read_bytes()[:40])
    assert replay.main([str(tmp_path / "t")]) == 1
    assert str(path) in capsys.readouterr().err


def test_machine_output_is_json(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(tables), "--search", "exhaustive", "racing", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["search"] for row in rows] == ["exhaustive", "racing"]
    assert replay.main([str(tables)]) == 0
    assert "accuracy [95 %]" in capsys.readouterr().out


def test_weighting_is_learned_on_validation_images_and_overwrites_nothing(
    run: Callable[..., Any], tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="not learned on test images"):
        learn(tables)
    run(split="validation", search="exhaustive", save_errors=str(tmp_path / "v"))
    file = tmp_path / "weighting.json"
    assert replay.main([str(tmp_path / "v"), "--learn", str(file)]) == 0
    row, _ = run(search="exhaustive", weighting=str(file))
    assert "weighting=learned@digits/validation" in row["setting"]
    (again,) = replayed(tables, ["exhaustive"], [str(file)])
    assert again["accuracy"] == row["accuracy"]
    capsys.readouterr()
    assert replay.main([str(tmp_path / "v"), "--learn", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_tables_keep_whose_they_are(tables: Path) -> None:
    saved = read_saved(tables)
    assert saved.spec["search"] == "exhaustive" and len(saved.schedule) == 1000
    assert len(saved.tables) == 8 and saved.tables[0].shape == (10, DRAWS)
    assert np.isfinite(saved.tables).all()
