"""Evaluation as one of several processes: its part of the images, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.evaluation.run import run_evaluation

SRUN = {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}
IMAGES = 12


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiffusionMethod, "seconds_per_batch", lambda self: 0.5)


def images(**options: Any) -> int:
    """Number of images that this process would score."""
    (row,) = run_evaluation(dry_run=True, quiet=True, limit=IMAGES, draws=1, **options)
    return int(row["images"])


def test_a_part_that_no_flag_names_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**SRUN, "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert images() == IMAGES // 4
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "shard 1/4, from SLURM_PROCID and SLURM_NTASKS" in said[0]
    assert images(shard="0/1") == IMAGES
    assert images(shard="0/2") == images(n_workers=2, worker_idx=1) == IMAGES // 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("step", [None, "4294967291", "batch"])
def test_a_batch_script_without_srun_scores_all_images(
    step: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    if step is not None:
        monkeypatch.setenv("SLURM_STEP_ID", step)
    assert images() == IMAGES
    assert capsys.readouterr().err == ""


def test_the_only_process_of_a_launcher_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert images() == IMAGES
    assert capsys.readouterr().err == ""
