"""Rejection and multi-label benchmarks: their baselines, verdicts and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from benchmarks.accuracy import multi_label, rejection
from benchmarks.core.tables import read_rows
from diffcls.data.load import load_dataset
from diffcls.data.open_set import open_set

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def test_scores_of_clip_are_those_of_the_same_candidates() -> None:
    data = load_dataset("digits", "test")
    scores = np.arange(10.0)[None].repeat(3, axis=0)
    assert rejection.candidates_of(scores)[0].tolist() == list(open_set(data, 0).kept)


def test_difference_is_that_of_the_metrics() -> None:
    rng = np.random.default_rng(0)
    unknown = rng.random(60) < 0.4
    ours, clip = (rng.normal(size=60) + 2 * ~unknown for _ in range(2))
    rows = {row["metric"]: row for row in rejection.difference(ours, clip, unknown)}
    for metric, figure in rejection.METRICS.items():
        a, b = (figure(s[~unknown], s[unknown]) for s in (ours, clip))
        assert rows[metric]["value"] == pytest.approx(a - b, abs=1e-12)
        assert rows[metric]["ci_low"] <= a - b <= rows[metric]["ci_high"]


@pytest.mark.parametrize(
    ("metric", "low", "high", "verdict"),
    [
        ("AUROC", 0.1, 0.2, "the background prompt is better"),
        ("AUROC", -0.2, -0.1, "CLIP is better"),
        ("FPR95", -0.2, -0.1, "the background prompt is better"),
        ("FPR95", 0.1, 0.2, "CLIP is better"),
        ("AUROC", -0.1, 0.1, "no difference is established"),
        ("FPR95", 0.0, 0.1, "no difference is established"),
    ],
)
def test_verdict_follows_the_interval(metric: str, low: float, high: float, verdict: str) -> None:
    row: dict[str, Any] = {"value": (low + high) / 2, "ci_low": low, "ci_high": high}
    assert verdict in rejection._verdict("name", {metric: row})


def test_no_constant_answer_has_a_higher_f1_than_chance() -> None:
    present = np.random.default_rng(0).random((50, 4)) < 0.3
    (_, mean_f1) = multi_label.by_chance(present)
    everything = f1_score(present, np.ones_like(present), average="macro")
    assert mean_f1["value"] == pytest.approx(everything, abs=1e-12)


@pytest.mark.parametrize(
    ("module", "page", "table"),
    [
        (rejection, "rejection.md", "rejection.csv"),
        (multi_label, "multi_label.md", "multi_label.csv"),
    ],
)
def test_page_is_that_of_its_table(module: Any, page: str, table: str) -> None:
    text = "\n".join(module._page(read_rows(REFERENCE / table)))
    assert text == (REFERENCE / page).read_text(encoding="utf-8")
