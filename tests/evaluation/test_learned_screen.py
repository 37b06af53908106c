"""Evaluation with --search learned: its answers, their cost, and what its rows state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from helpers.answers import assert_independent_of_batches
from helpers.learned_runs import (
    CLASSES,
    LIMIT,
    analytic_model,
    built,
    first,
    fit_file,
    fits,
    no_fit,
    options,
    records,
    run,
)

import diffcls
from diffcls.support.cache import read_arrays

__all__ = ["analytic_model", "first", "fits", "no_fit"]


def test_row_states_what_it_was_fitted_on(first: tuple[Path, dict[str, Any]]) -> None:
    output, row = first
    assert row["status"] == "complete" and row["n_scored"] == LIMIT
    assert row["search"] == "learned" and row["fingerprint"]
    assert "fit=digits/train" in row["setting"] and "candidates=3" in row["setting"]
    assert "fit_images=50" in row["setting"] and "fit_classes=10" in row["setting"]
    fit = read_arrays(fit_file(output), "fit")
    images = int(fit["calibration_images"])
    assert images == 12 and 0 <= float(fit["survival"]) <= images / (images + 1)
    for one in records(output).values():
        assert sorted(one["ranking"]) == list(range(CLASSES))
        assert np.isfinite(one["scores"]).all()
        assert one["scores"][one["ranking"][0]] == max(one["scores"])


def test_no_image_costs_more_than_stated(first: tuple[Path, dict[str, Any]], fits: Path) -> None:
    row = run(fits, dry_run=True)
    # two points of three evaluations, each class looked at, three classes on all draws
    assert row["evaluations_per_image_at_most"] == 2 * 3 + CLASSES + 3 * 8
    costs = [one["evaluations"] for one in records(first[0]).values()]
    assert 6 + 3 < min(costs) <= max(costs) <= row["evaluations_per_image_at_most"]


def test_answers_do_not_depend_on_order_or_company(fits: Path, no_fit: None) -> None:
    one, data = built(options(fits, limit=30, batch_size=16))
    assert_independent_of_batches(one.method, list(data.items))


def test_shards_have_the_answers_of_the_whole(
    first: tuple[Path, dict[str, Any]], fits: Path, no_fit: None
) -> None:
    for shard in ("0/2", "1/2"):
        diffcls.run_evaluation(**options(fits, shard=shard))
    assert records(fits) == records(first[0])


def test_most_winners_are_those_of_racing(
    first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run(tmp_path, search="racing", candidates=None, fit_images=None, fit_classes=None)
    raced, ours = records(tmp_path), records(first[0])
    same = sum(raced[i]["ranking"][0] == one["ranking"][0] for i, one in ours.items())
    assert same >= LIMIT - 2
    assert np.mean([one["evaluations"] for one in ours.values()]) < CLASSES * 8


def test_no_more_classes_than_candidates_need_no_fit(tmp_path: Path, no_fit: None) -> None:
    row = run(tmp_path, candidates=CLASSES, limit=3)
    assert row["n_scored"] == 3 and not (tmp_path / "fits").exists()
