"""Paired tests against any run, and the table in the published shape."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.stored_runs import write_run

from diffcls.reports.page.leaderboard_shape import shape
from diffcls.reports.page.paired import paired_groups
from diffcls.runs.comparable import read_results
from diffcls.runs.leaderboard import published_rows
from diffcls.runs.stored import read_runs

RNG = np.random.default_rng(1)
IDS = [f"{i:03d}" for i in range(120)]
LABELS = RNG.integers(0, 3, 120)


def answers(right: float, ids: list[str] = IDS) -> dict[str, tuple[int, int | None]]:
    wrong = (LABELS + 1) % 3
    hit = RNG.random(120) < right
    return {i: (int(LABELS[k]), int(LABELS[k] if hit[k] else wrong[k])) for k, i in enumerate(ids)}


def test_each_run_is_the_reference_once_and_p_is_that_of_scipy(tmp_path: Path) -> None:
    stats = pytest.importorskip("scipy.stats")
    runs = [answers(right) for right in (0.9, 0.6, 0.8)]
    names = [write_run(tmp_path, one, seed=seed) for seed, one in enumerate(runs)]
    (group,) = paired_groups(map(read_results, read_runs(tmp_path).runs))
    assert [p.reference.fingerprint for p in group.pairings] == names
    for pairing, first in zip(group.pairings, runs, strict=True):
        raw = []
        for one in pairing.differences:
            other = runs[names.index(one.fingerprint)]
            gained = sum(other[i][0] == other[i][1] and first[i][0] != first[i][1] for i in IDS)
            lost = sum(other[i][0] != other[i][1] and first[i][0] == first[i][1] for i in IDS)
            raw.append(stats.binomtest(gained, gained + lost).pvalue)
            assert (one.n_gained, one.n_lost) == (gained, lost)
            assert math.isclose(one.difference, (gained - lost) / 120)
            assert math.isclose(one.p_value, raw[-1], rel_tol=1e-9)
        # Holm: the smaller of two p-values counts twice
        low, high = sorted(raw)
        expected = [min(1, 2 * low), max(min(1, 2 * low), high)]
        assert np.allclose(sorted(d.p_holm for d in pairing.differences), expected)


def test_pairs_are_compared_on_the_images_that_both_scored(tmp_path: Path) -> None:
    everything = answers(0.9)
    write_run(tmp_path, everything)
    part = {i: everything[i] for i in IDS[:30]}
    second = write_run(tmp_path, part, seed=1, subset="30:abc")
    (group,) = paired_groups(map(read_results, read_runs(tmp_path).runs))
    assert group.pairings[0].n_shared == {second: 30}


def test_runs_that_cannot_be_compared_say_why(tmp_path: Path) -> None:
    write_run(tmp_path, {"a": (0, 0)})
    names = ("cat", "dog", "newt", "owl")
    other = write_run(tmp_path, {"a": (0, 0)}, class_names=names)
    (group,) = paired_groups(map(read_results, read_runs(tmp_path).runs))
    assert "different numbers of classes" in group.pairings[0].refused[other]


def row(**cells: Any) -> dict[str, Any]:
    common = {"search": "", "setting": "default", "source": "measured", "ci_low": "", "ci_high": ""}
    return {**common, "model": "m", "supervision": "zero-shot", **cells}


def test_every_published_figure_stands_in_its_cell() -> None:
    table = shape([])
    lines = [line for group in table.groups.values() for line in group]
    assert sum(len(line.cells) for line in lines) == len(published_rows()) == 46
    zero_shot = {(line.method, line.model): line for line in table.groups["Zero-shot"]}
    assert zero_shot["diffusion", "sd2-base"].cells["pets"].accuracy in (0.857, 0.873)
    (trained,) = table.groups["Trained with labels"]
    assert trained.method == "sd-features" and trained.cells["objectnet"].accuracy == 0.102


def test_measured_rows_stand_before_published_ones_and_their_data_sets_first() -> None:
    rows = [
        row(dataset="digits", method="diffusion", accuracy="0.9", fingerprint="a", model="one"),
        row(dataset="pets", method="diffusion", accuracy="0.8", fingerprint="b", model="two"),
    ]
    table = shape(rows)
    first, *others = table.groups["Zero-shot"]
    assert table.datasets[:2] == ["digits", "pets"]
    assert first.is_measured and first.model == "" and not any(o.is_measured for o in others)
    assert {name: cell.accuracy for name, cell in first.cells.items()} == {
        "digits": 0.9,
        "pets": 0.8,
    }


def test_two_models_on_one_data_set_are_two_lines() -> None:
    rows = [
        row(dataset="digits", method="clip", accuracy="0.9", fingerprint="a", model="one"),
        row(dataset="digits", method="clip", accuracy="0.8", fingerprint="b", model="two"),
    ]
    lines = shape(rows, with_published=False).groups["Zero-shot"]
    assert [line.model for line in lines] == ["one", "two"]
    assert [line.cells["digits"].is_best for line in lines] == [True, False]


def test_chance_is_never_the_best_and_comes_last() -> None:
    chance = {"method": "reference", "model": "chance", "fingerprint": "a"}
    rows = [
        row(dataset="d", accuracy="0.1", **chance),
        row(dataset="e", accuracy="0.9", **chance),
        row(dataset="e", method="clip", accuracy="0.8", fingerprint="b"),
    ]
    first, last = shape(rows, with_published=False).groups["Zero-shot"]
    assert (first.method, first.cells["e"].is_best) == ("clip", True)
    assert last.is_chance and not any(cell.is_best for cell in last.cells.values())


def test_versions_of_a_model_are_not_averaged_and_the_newest_comes_first() -> None:
    clip = {"method": "clip", "model": "one"}
    rows = [
        row(dataset="d", accuracy="0.5", fingerprint="a", revision="x", date="2026-01-01", **clip),
        row(dataset="e", accuracy="0.6", fingerprint="b", revision="z", date="2026-01-01", **clip),
        row(dataset="d", accuracy="0.7", fingerprint="c", revision="y", date="2026-02-01", **clip),
        row(dataset="d", accuracy="0.9", fingerprint="d", revision="y", date="2026-02-02", **clip),
    ]
    new, old = shape(rows, with_published=False).groups["Zero-shot"]
    assert new.cells["d"].accuracies == [0.7, 0.9] and new.cells["e"].accuracies == [0.6]
    assert new.setting == "" and old.setting == "earlier model version"
    assert {name: cell.accuracies for name, cell in old.cells.items()} == {"d": [0.5]}


def test_seeds_share_a_cell_with_their_mean() -> None:
    rows = [
        row(dataset="d", method="diffusion", accuracy=a, fingerprint=a, ci_low="0.1", ci_high="0.9")
        for a in ("0.8", "0.6")
    ]
    (line,) = shape(rows, with_published=False).groups["Zero-shot"]
    cell = line.cells["d"]
    assert math.isclose(cell.accuracy, 0.7) and cell.accuracies == [0.8, 0.6] and cell.low is None
