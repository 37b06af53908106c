"""Shards of an evaluation in two folders: merged, they are the run of a single undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.interrupted_runs import answers, lines
from helpers.sharded_runs import DISTURBED, files_of

from diffcls import evaluate, merge
from diffcls.models import loading
from diffcls.runs import leaderboard

IMAGES = 12
FLAGS = ["--limit", str(IMAGES), "--draws", "6", "--threads", "1", "--quiet", "--no-check-model"]


@pytest.fixture(scope="module")
def flags(tiny_pipeline: Callable[[str], Path]) -> list[str]:
    return ["--model", str(tiny_pipeline("v_prediction")), *FLAGS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    root = tmp_path_factory.mktemp("shards")
    assert evaluate.main([*flags, "--output-dir", str(root / "whole")]) == 0
    for i in range(2):
        shard = ["--shard", f"{i}/2", "--output-dir", str(root / f"part-{i}")]
        assert evaluate.main([*flags, *shard]) == 0
    return root


def row(out: Path) -> dict[str, str]:
    (one,) = leaderboard.read(out / "leaderboard.csv")
    return {name: cell for name, cell in one.items() if name not in DISTURBED}


@pytest.mark.parametrize("has_header_facts", [True, False], ids=["this version", "earlier"])
def test_merged_shards_are_an_undisturbed_run_without_images_or_model(
    folders: Path,
    tmp_path: Path,
    flags: list[str],
    has_header_facts: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = [folders / "part-0", folders / "part-1"]
    if not has_header_facts:  # then the leaderboards tell them
        for i, part in enumerate(parts):
            parts[i] = tmp_path / part.name
            for name, content in files_of(part).items():
                path = parts[i] / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(without_facts(content) if path.name == "run.json" else content)

    def refuse(*given: Any, **more: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(loading, "load", refuse)
    monkeypatch.setattr("diffcls.data.load.load_dataset", refuse)
    merged = tmp_path / "merged"
    assert merge.main([*map(str, parts), "--into", str(merged), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["runs"]
    assert answers(merged) == answers(folders / "whole")
    assert row(merged) == row(folders / "whole") and row(merged)["status"] == "complete"
    assert {k: result["row"][k] for k in ("n_asked", "n_scored")} == {
        "n_asked": IMAGES,
        "n_scored": IMAGES,
    }
    monkeypatch.undo()
    # the command itself sees a finished run, and writes the same row
    before = files_of(merged)
    monkeypatch.setattr(loading, "load", refuse)
    assert evaluate.main([*flags, "--output-dir", str(merged)]) == 0
    assert files_of(merged)["leaderboard.csv"] == before["leaderboard.csv"]


def without_facts(header: bytes) -> bytes:
    body = json.loads(header)
    for name in ("n_asked", "n_classes", "setting", "supervision"):
        del body[name]
    return json.dumps(body).encode()


def test_evaluation_resumes_what_a_merge_found_missing(
    folders: Path, tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert merge.main([str(folders / "part-1"), "--into", str(tmp_path)]) == 1
    assert "6 of 12 images have no record" in capsys.readouterr().err
    early = lines(tmp_path)
    assert evaluate.main([*flags, "--output-dir", str(tmp_path)]) == 0
    assert lines(tmp_path)[: len(early)] == early
    assert answers(tmp_path) == answers(folders / "whole")
    assert row(tmp_path) == row(folders / "whole")
