"""The learned screen with a bundled model: one fit for shards and for a killed run."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from helpers.interrupted_runs import answers, cut_off

from diffcls import evaluate

FLAGS = [
    *("--dataset", "scenes:24", "--search", "learned", "--candidates", "3", "--draws", "16"),
    *("--fit-images", "50", "--fit-classes", "10", "--limit", "8", "--quiet"),
]


@pytest.mark.slow
def test_killed_and_sharded_runs_have_the_answers_of_a_whole_one(tmp_path: Path) -> None:
    whole, killed, parts = (tmp_path / name for name in ("whole", "killed", "parts"))
    assert evaluate.main([*FLAGS, "--output-dir", str(whole)]) == 0
    expected = answers(whole)
    assert len(expected) == 8 and all(record.error is None for record in expected.values())
    (fit,) = (whole / "fits").glob("learned-screen-*.npz")
    made = fit.stat().st_mtime_ns
    for out in (killed, parts):
        shutil.copytree(whole / "fits", out / "fits")
    status, _ = cut_off(killed, FLAGS, signal.SIGKILL)
    assert status == -signal.SIGKILL and len(answers(killed)) == 3
    assert evaluate.main([*FLAGS, "--output-dir", str(killed)]) == 0
    assert answers(killed) == expected
    for shard in ("1/2", "0/2"):
        assert evaluate.main([*FLAGS, "--shard", shard, "--output-dir", str(parts)]) == 0
    assert answers(parts) == expected
    # nothing was fitted again
    names = {path.name for path in (whole / "fits").glob("*.npz")}
    assert len(names) == 2
    for out in (killed, parts):
        assert {path.name for path in (out / "fits").glob("*.npz")} == names
    assert fit.stat().st_mtime_ns == made
