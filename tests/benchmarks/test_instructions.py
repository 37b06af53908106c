"""Instructions benchmark: requests, and the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy.edited_scenes import PARTS, Outcome, kind_of, row, swapped
from benchmarks.accuracy.instructions import ALL, GRID, page, request
from benchmarks.core.tables import record_environment
from diffcls.data.load import load_dataset


def test_requests_are_the_swaps_of_the_benchmark_of_edits() -> None:
    for number, item in enumerate(load_dataset("scenes/attributes", "test").items[:30]):
        part = [*PARTS][number % 3]
        target, words = request(item, part)
        assert target == swapped(kind_of(item), part, item.image_id)
        assert request(item, part) == (target, words)
        if part == "colour":
            assert words.rstrip(".").endswith(target.colour)


def test_the_page_judges_the_target(tmp_path: Path) -> None:
    good, bad = Outcome(True, True, 0.0, 30.0, 31.5), Outcome(False, False, 0.2, 20.0, 31.5)
    facts = {
        "guidance": 3.0,
        "image_guidance": 1.5,
        "evaluations": 60,
        "model": "scenes-instruct",
        "judge": "clip-scenes",
        "judge_accuracy": 1.0,
    }
    record_environment(tmp_path, "instructions")
    rows = [{**row("", [good, good, good, bad]), "change": ALL, **facts}]
    choices = [{**row("", [good]), "guidance": a, "image_guidance": b} for a, b in GRID]
    lines = [*page(rows, choices, tmp_path)]
    assert any(
        line.startswith("- 75.0% of the edits") and line.endswith(": met.") for line in lines
    )
    assert sum(line.startswith("| 1.5 |") for line in lines) == 2


@pytest.mark.slow
def test_measured_edits_show_what_was_asked_for() -> None:
    from benchmarks.accuracy.instructions import measure

    rows, choices = measure("scenes-instruct", 12, 3)
    whole = next(one for one in rows if one["change"] == ALL)
    assert whole["rate"] > 0.4 and whole["judge_accuracy"] > 0.9
    assert len(choices) == len(GRID)
