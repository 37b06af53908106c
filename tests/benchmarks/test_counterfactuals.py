"""Counterfactuals benchmark: figures of outcomes, and the verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy.counterfactuals import NAME, Outcome, measure, page, row
from benchmarks.core.tables import record_environment

GOOD, FAR = Outcome(True, True, 0.02, 0.5), Outcome(True, True, 0.4, 0.9)
BAD = Outcome(False, False, 0.0, 1.0)
COMMON = {"steps": 25, "model": "scenes", "judge": "clip", "judge_accuracy": 1.0}


def test_rows_are_shares_means_and_medians() -> None:
    found = row("all", [GOOD, GOOD, FAR, BAD])
    assert (found["n"], found["convincing"], found["judged"], found["both"]) == (4, 0.75, 0.75, 0.5)
    assert found["changed_outside"] == pytest.approx(0.11) and found["strength"] == 0.7
    assert found["ci_low"] < 0.75 < found["ci_high"]


def test_a_counterfactual_that_changes_the_surroundings_is_no_success(tmp_path: Path) -> None:
    record_environment(tmp_path, NAME)
    lines = "\n".join(page([{**row("all", [GOOD, GOOD, FAR, BAD]), **COMMON}], tmp_path))
    assert "- 50.0% convince the judge while at most 15%" in lines and "70%: missed." in lines
    lines = "\n".join(page([{**row("all", [GOOD] * 3 + [BAD]), **COMMON}], tmp_path))
    assert "- 75.0% convince" in lines and "70%: met." in lines


@pytest.mark.slow
def test_measured_counterfactuals_convince() -> None:
    found = {one["attribute"]: one for one in measure(6)}
    assert found["all"]["n"] == 6 and found["all"]["judge_accuracy"] > 0.9
    assert found["all"]["judged"] > 0.5 and found["all"]["changed_outside"] < 0.3
