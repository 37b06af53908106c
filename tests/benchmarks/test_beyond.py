"""Benchmark of the rules beyond the published one: its figures, its verdicts and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.accuracy import beyond
from benchmarks.core.tables import read_rows
from diffcls.classifiers.options import ClassifierOptions
from diffcls.data import catalog
from diffcls.runs.records import Record
from tools.learn_allocations import file_for

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def run(right: list[bool], evaluations: int = 10) -> dict[str, Record]:
    return {
        f"test/{i}": Record(
            "f", f"test/{i}", 0, (0, 1) if ok else (1, 0), (0.0, 0.0), evaluations, 0
        )
        for i, ok in enumerate(right)
    }


def test_figures_are_those_of_the_images_that_both_scored() -> None:
    ours, theirs = [True] * 6 + [False] * 4, [True] * 3 + [False] * 5 + [True]
    found = beyond.figures(run(ours, 7), run(theirs))
    assert (found["n"], found["accuracy"], found["evaluations_per_image"]) == (10, 0.6, 7)
    # the first nine are common: 3 gained, 1 lost
    assert (found["gained"], found["lost"]) == (3, 1)
    assert found["difference"] == pytest.approx(2 / 9)
    assert found["p"] == pytest.approx(stats.binomtest(1, 4).pvalue)
    assert found["difference_low"] < 2 / 9 < found["difference_high"]
    assert "difference" not in beyond.figures(run(ours), None)


def row(dataset: str, low: float, high: float, gained: int = 5, lost: int = 2) -> dict[str, Any]:
    interval = {"difference_low": low, "difference_high": high}
    return {"dataset": dataset, "gained": gained, "lost": lost, "n": 100, **interval}


def test_verdict_names_the_data_sets_whose_interval_leaves_out_zero() -> None:
    both = [row("a", 0.01, 0.05), row("b", -0.05, -0.01), row("c", -0.01, 0.01)]
    assert beyond._verdict(both).startswith("helps on a; hurts on b. Over all 300 images it gains")
    assert "gains 15 and loses 6 (+3.0 points" in beyond._verdict(both)
    assert beyond._verdict(both[2:]).startswith("no difference is established on any data set")


def test_interrupted_benchmark_keeps_its_rows_in_the_order_of_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "beyond.csv"
    for rule, dataset, n in (
        (beyond.DEFAULT, "cifar10", 1),
        (beyond.PUBLISHED, "digits", 2),
        (beyond.PUBLISHED, "cifar10", 3),
        (beyond.DEFAULT, "cifar10", 4),
    ):
        beyond._put(path, {"rule": rule, "dataset": dataset, "n": n})
    assert [one["n"] for one in read_rows(path)] == [2, 3, 4]


def test_every_rule_is_allowed_and_is_compared_with_one_before_it() -> None:
    names = [rule.name for rule in beyond.RULES]
    assert len(set(names)) == len(names) and not beyond.RULES[0].against
    for place, rule in enumerate(beyond.RULES[1:], start=1):
        assert names.index(rule.against) < place
        options = {k: v for k, v in rule.options.items() if v != beyond.LEARNED}
        ClassifierOptions(**options)  # raises for a value that is not allowed
    for part in beyond.PARTS:
        assert catalog.find(part.dataset).splits == ("test", "validation", "train")
        assert Path(file_for(part.dataset)).stem != part.dataset  # of another data set


def test_page_is_that_of_its_table() -> None:
    text = "\n".join(beyond.page(read_rows(REFERENCE / beyond.TABLE)))
    assert text == (REFERENCE / "beyond.md").read_text(encoding="utf-8")


def test_every_figure_of_the_table_follows_from_its_counts() -> None:
    for one in read_rows(REFERENCE / beyond.TABLE):
        assert one["ci_low"] <= one["accuracy"] <= one["ci_high"]
        if one["against"]:
            gap = (one["gained"] - one["lost"]) / one["n"]
            assert one["difference"] == pytest.approx(gap, abs=1e-5)
            discordant = one["gained"] + one["lost"]
            p = stats.binomtest(one["gained"], discordant).pvalue if discordant else 1.0
            assert one["p"] == pytest.approx(min(p, 1.0), rel=1e-4)
        assert (one["supervision"] == "hybrid") == (one["rule"] == beyond.HYBRID)
    assert np.isfinite(
        [one["evaluations_per_image"] for one in read_rows(REFERENCE / "beyond.csv")]
    ).all()
