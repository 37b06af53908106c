"""Golden fingerprints and results: one run of each method and search.

The results of the digits are those of version 0.1. The fingerprints are not: since 0.2 the revision
of a model includes its temperature and its class names. A change that moves any of them raises the
scoring version or changes the definition of the run, and is listed in CHANGELOG.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffcls
from diffcls.runs.records import Record

GOLDEN: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("golden.json").read_text(encoding="utf-8")
)
SLOW = {"sd-features"}  # fits a linear probe on the whole training split
RUNS = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name, run in GOLDEN.items()
    if "records" in run
]


WITHOUT_A_RUN = [name for name, run in GOLDEN.items() if "records" not in run or name in SLOW]


@pytest.mark.parametrize("name", WITHOUT_A_RUN)
def test_fingerprint_is_the_golden_one(name: str, tmp_path: Path) -> None:
    options = {**GOLDEN[name]["options"], "dry_run": True, "output_dir": str(tmp_path)}
    (spec,) = diffcls.run_evaluation(**options)
    assert spec["fingerprint"] == GOLDEN[name]["fingerprint"]


@pytest.mark.parametrize("name", RUNS)
def test_fingerprint_and_results_are_the_golden_ones(name: str, tmp_path: Path) -> None:
    expected = GOLDEN[name]["records"]
    options = {**GOLDEN[name]["options"], "threads": 1, "quiet": True}
    (row,) = diffcls.run_evaluation(output_dir=str(tmp_path), **options)
    assert row["fingerprint"] == GOLDEN[name]["fingerprint"]
    (file,) = tmp_path.glob("runs/*/records-*.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    records = {record.image_id: record for record in map(Record.from_line, lines)}
    assert records.keys() == expected.keys()
    for image_id, record in records.items():
        assert record.evaluations == expected[image_id]["evaluations"]
        assert list(record.ranking) == expected[image_id]["ranking"]
        # the last bits depend on the processor, by which libraries choose their kernels
        scores = np.array(expected[image_id]["scores"], np.float64)
        np.testing.assert_allclose(np.array(record.scores, np.float64), scores, rtol=1e-5)
