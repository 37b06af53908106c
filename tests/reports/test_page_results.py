"""Figures of a run's section against independent computations."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.stored_runs import write_run

from diffcls.reports.page.reliability import calibration, reliability
from diffcls.reports.page.results import (
    accuracy_per_class,
    bands,
    confused_pairs,
    confusion,
    read_run,
    settled,
)
from diffcls.runs.stored import read_runs

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 400)
ANSWERS = np.where(RNG.random(400) < 0.7, LABELS, RNG.integers(0, 5, 400))
EVALUATIONS = RNG.integers(20, 60, 400)


def test_the_confusion_matrix_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.confusion_matrix(LABELS, ANSWERS, labels=range(6))
    assert (confusion(LABELS, ANSWERS, 6) == expected).all()


def test_confused_pairs_are_all_wrong_answers_the_most_frequent_first() -> None:
    pairs = confused_pairs(confusion(LABELS, ANSWERS, 5))
    assert sum(n for _, _, n in pairs) == (LABELS != ANSWERS).sum()
    assert [n for _, _, n in pairs] == sorted((n for _, _, n in pairs), reverse=True)
    i, j, n = pairs[0]
    assert n == ((LABELS == i) & (ANSWERS == j)).sum() and i != j


def test_accuracy_per_class_counts_the_images_of_each_label() -> None:
    classes = accuracy_per_class(confusion(LABELS, ANSWERS, 7))
    assert [c.index for c in classes] == [0, 1, 2, 3, 4]  # the others have no image
    for one in classes:
        chosen = LABELS == one.index
        assert (one.n, one.correct) == (chosen.sum(), (ANSWERS[chosen] == one.index).sum())
        assert one.low <= one.accuracy <= one.high


def test_accuracy_against_evaluations_ends_at_the_accuracy() -> None:
    correct = LABELS == ANSWERS
    curve = settled(EVALUATIONS, correct.astype(float))
    assert curve.finished[-1] == 1 and math.isclose(curve.correct[-1], correct.mean())
    for value, finished, right in zip(
        curve.evaluations, curve.finished, curve.correct, strict=True
    ):
        assert math.isclose(finished, (EVALUATIONS <= value).mean())
        assert math.isclose(right, (correct & (EVALUATIONS <= value)).mean())


def test_bands_of_evaluations_hold_each_image_once() -> None:
    correct = (LABELS == ANSWERS).astype(np.int64)
    parts = bands(EVALUATIONS, correct)
    assert sum(b.n for b in parts) == 400 and sum(b.correct for b in parts) == correct.sum()
    assert all(a.high < b.low for a, b in itertools.pairwise(parts))
    assert [(b.low, b.high, b.n) for b in bands(np.full(9, 7), np.ones(9, dtype=int))] == [
        (7, 7, 9)
    ]


def test_bins_of_the_reliability_diagram_sum_to_the_ece() -> None:
    p = RNG.dirichlet(np.ones(5), 400)
    one = reliability(p, LABELS)
    gaps = sum(b.n * abs(b.accuracy - b.confidence) for b in one.bins)
    assert sum(b.n for b in one.bins) == 400
    assert math.isclose(gaps / 400, one.ece, rel_tol=1e-9)


def answers_of(count: int) -> dict[str, tuple[int, int | None]]:
    labels, answers = LABELS[:count] % 3, ANSWERS[:count] % 3
    return {
        f"{i:03d}.jpg": (int(a), int(b))
        for i, (a, b) in enumerate(zip(labels, answers, strict=True))
    }


def test_the_ece_of_a_run_is_the_leaderboards(tmp_path: Path) -> None:
    write_run(tmp_path, answers_of(200))
    (run,) = read_runs(tmp_path).runs
    found = calibration(read_run(run))
    assert found is not None and found.after is not None
    assert math.isclose(found.before.ece, float(run.row["ece"]), abs_tol=1e-6)


def test_a_temperature_is_fitted_on_the_other_half_and_lowers_the_likelihood_loss(
    tmp_path: Path,
) -> None:
    write_run(tmp_path, answers_of(400), header={"posterior_scale": 40.0})
    found = calibration(read_run(read_runs(tmp_path).runs[0]))
    assert found is not None and found.after is not None
    # scores 0, -1, -2 at scale 40 are far too sure of answers that are right in 3 of 4 images
    assert len(found.temperatures) == 2 and min(found.temperatures) > 10
    assert found.after.nll < found.before.nll and found.after.ece < found.before.ece


def test_without_log_likelihoods_there_is_no_calibration(tmp_path: Path) -> None:
    write_run(tmp_path, answers_of(9), header={"posterior_scale": None})
    assert calibration(read_run(read_runs(tmp_path).runs[0])) is None


def test_failed_images_are_apart(tmp_path: Path) -> None:
    write_run(tmp_path, {"a": (0, 0), "b": (1, None), "c": (2, 1)})
    results = read_run(read_runs(tmp_path).runs[0])
    assert [r.image_id for r in results.failed] == ["b"]
    assert results.labels.tolist() == [0, 2] and results.answers.tolist() == [0, 1]
