"""Interrupted and sharded runs: their records equal those of a single undisturbed run."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.interrupted_runs import answers, cut_off, lines

from diffcls import evaluate

IMAGES = 30
FLAGS = ["--limit", str(IMAGES), "--draws", "12", "--threads", "1", "--quiet"]


@pytest.fixture(scope="module")
def flags(tiny_pipeline: Callable[[str], Path]) -> list[str]:
    return ["--model", str(tiny_pipeline("v_prediction")), *FLAGS]


def row(out: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The row of a run that is complete already."""
    capsys.readouterr()
    assert evaluate.main([*flags, "--output-dir", str(out), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    return {k: v for k, v in row.items() if k not in {"seconds_per_image", "date", "command"}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    assert evaluate.main([*flags, "--output-dir", str(out)]) == 0
    assert len(answers(out)) == IMAGES
    # images leave the race at different times, so the composition of batches differs
    assert len({record.evaluations for record in answers(out).values()}) > 1
    return out


SIGINT = pytest.param(signal.SIGINT, marks=pytest.mark.slow, id="SIGINT")


@pytest.mark.parametrize("stop", [pytest.param(signal.SIGKILL, id="SIGKILL"), SIGINT])
def test_interrupted_run_resumes_to_the_same_records(
    tmp_path: Path,
    flags: list[str],
    undisturbed: Path,
    stop: signal.Signals,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, err = cut_off(tmp_path, flags, stop)
    early = lines(tmp_path)
    assert 3 <= len(early) < IMAGES, "the run was not interrupted in its middle"
    if stop == signal.SIGINT:
        assert status == 130
        untrained = "diffcls: the model looks untrained: on 4 images its outputs are no better than"
        assert (
            err == f"{untrained} zero\n\ndiffcls: interrupted; rerun the same command to resume\n"
        )
    else:
        assert status == -signal.SIGKILL
    assert not (tmp_path / "leaderboard.csv").exists()

    assert evaluate.main([*flags, "--output-dir", str(tmp_path)]) == 0
    assert lines(tmp_path)[: len(early)] == early  # stored records are not computed again
    assert answers(tmp_path) == answers(undisturbed)
    assert row(tmp_path, flags, capsys) == row(undisturbed, flags, capsys)


def test_shards_give_the_records_of_a_single_run(
    tmp_path: Path,
    flags: list[str],
    undisturbed: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = [*flags, "--output-dir", str(tmp_path)]
    assert evaluate.main([*here, "--shard", "0/3", "--json"]) == 0
    (first,) = json.loads(capsys.readouterr().out)
    assert (first["status"], first["n_asked"], first["n_scored"]) == ("partial", IMAGES, 10)
    assert evaluate.main([*here, "--n_workers", "3", "--worker_idx", "1"]) == 0
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert evaluate.main(here) == 0
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.glob("runs/*/records-*.jsonl")) == [
        f"records-{i}-of-3.jsonl" for i in range(3)
    ]
    assert [len(path.read_text().splitlines()) for path in tmp_path.glob("runs/*/rec*")] == [10] * 3
    assert answers(tmp_path) == answers(undisturbed)
    assert row(tmp_path, flags, capsys) == row(undisturbed, flags, capsys)


def begin(out: Path, undisturbed: Path, count: int) -> None:
    """Make the folder of a run that was interrupted after `count` images."""
    (whole,) = undisturbed.glob("runs/*/records-0-of-1.jsonl")
    folder = out / "runs" / whole.parent.name
    folder.mkdir(parents=True)
    begun = whole.read_text().splitlines(keepends=True)[:count]
    (folder / whole.name).write_text("".join(begun) + '{"torn')
    shutil.copy(whole.with_name("run.json"), folder)


def test_run_without_shards_resumes_with_two(
    tmp_path: Path, flags: list[str], undisturbed: Path
) -> None:
    begin(tmp_path, undisturbed, 12)
    for shard in ("0/2", "1/2"):
        assert evaluate.main([*flags, "--output-dir", str(tmp_path), "--shard", shard]) == 0
    assert answers(tmp_path) == answers(undisturbed)


def test_resumed_run_keeps_its_batch_shape_and_threads(
    tmp_path: Path, flags: list[str], undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.scoring.scorer import Scorer

    shapes = set()
    errors = Scorer.errors

    def noted(scorer: Scorer, *request: Any) -> torch.Tensor:
        shapes.add((scorer.batch_size, torch.get_num_threads()))
        return errors(scorer, *request)

    monkeypatch.setattr(Scorer, "errors", noted)
    # the timing of the cost may take other shapes
    monkeypatch.setattr(DiffusionMethod, "seconds_per_batch", lambda self: 0.1)
    begin(tmp_path, undisturbed, 20)
    other = ["--batch-size", "24", "--threads", "2", "--output-dir", str(tmp_path)]
    assert evaluate.main([*flags, *other]) == 0
    assert shapes == {(64, 1)}
    assert answers(tmp_path) == answers(undisturbed)
