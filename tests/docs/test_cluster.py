"""Job arrays of the documents: their scripts are run as a cluster would start them, on digits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.document_commands import ROOT
from helpers.interrupted_runs import answers
from helpers.sharded_runs import DISTURBED

from diffcls import evaluate
from diffcls.runs import leaderboard

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
LARGE = "--dataset pets --data-root data --model sd2-base"
SMALL = "--limit 6 --draws 2 --threads 1 --no-check-model --quiet"
"""What is run in place of the page's evaluation, which needs GPUs."""
TASKS = 2

pytestmark = pytest.mark.slow


def block(first: str) -> str:
    """The shell block of the page that begins with a text."""
    (source,) = re.findall(rf"```(?:sh|bash)\n({re.escape(first)}.*?)```", PAGE, re.DOTALL)
    return str(source)


def shell(script: str, folder: Path, **variables: str) -> str:
    """Run a script by bash, without srun, as a compute node would; its output is returned."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "RANK", "WORLD_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={
            **kept,
            "PATH": path,
            "PYTHONPATH": os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")]),
            "HF_HUB_OFFLINE": "1",
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def small(script: str) -> str:
    assert LARGE in script and "srun" not in script
    return script.replace(LARGE, SMALL)


def row(out: Path) -> dict[str, str]:
    (one,) = leaderboard.read(out / "leaderboard.csv")
    return {name: cell for name, cell in one.items() if name not in DISTURBED}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert evaluate.main([*SMALL.split(), "--output-dir", str(out)]) == 0
    return out


def array_task(number: int) -> dict[str, str]:
    """Variables of a task of ``--array=1-2``."""
    return {
        "SLURM_ARRAY_TASK_ID": str(number + 1),
        "SLURM_ARRAY_TASK_COUNT": str(TASKS),
        "SLURM_ARRAY_TASK_MIN": "1",
        "SLURM_ARRAY_TASK_MAX": str(TASKS),
        "SLURM_ARRAY_TASK_STEP": "1",
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_LOCALID": "0",
    }


def test_array_job_of_the_page_scores_the_run_in_one_folder(tmp_path: Path, whole: Path) -> None:
    script = small(block("#!/bin/bash\n#SBATCH"))
    for number in range(TASKS):
        shell(script, tmp_path, **array_task(number))
        status = row(tmp_path / "results")["status"]
        assert status == ("complete" if number == TASKS - 1 else "partial")
    assert len(list(tmp_path.glob("results/runs/*/records-*-of-2.jsonl"))) == TASKS
    assert answers(tmp_path / "results") == answers(whole)
    assert row(tmp_path / "results") == row(whole)


def test_array_job_without_a_common_disk_is_merged(tmp_path: Path, whole: Path) -> None:
    script = small(block("python -m diffcls.evaluate --dataset pets"))
    for number in range(TASKS):
        shell(script, tmp_path, **array_task(number))
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["1", "2"]
    (wrapped,) = re.findall(r'--wrap "(.*)"', block("job=$(sbatch"))
    assert "complete: results/leaderboard.csv" in shell(wrapped, tmp_path)
    assert answers(tmp_path / "results") == answers(whole)
    assert row(tmp_path / "results") == row(whole)


def test_torchrun_line_of_the_page_scores_a_shard_per_process(tmp_path: Path, whole: Path) -> None:
    line = small(block("torchrun"))
    assert "--nproc-per-node 8" in line
    assert shutil.which("torchrun", path=Path(sys.executable).parent)
    shell(line.replace("--nproc-per-node 8", f"--nproc-per-node {TASKS}"), tmp_path)
    assert len(list(tmp_path.glob("results/runs/*/records-*-of-2.jsonl"))) == TASKS
    assert answers(tmp_path / "results") == answers(whole)
    assert row(tmp_path / "results") == row(whole)


def test_shards_of_the_page_are_merged(tmp_path: Path) -> None:
    printed = shell(
        block("python -m diffcls.evaluate --limit 20 --draws 8 --shard 0/2 --out"), tmp_path
    )
    assert "complete: merged/leaderboard.csv" in printed
    assert len(answers(tmp_path / "merged")) == 20
