"""Few-shot benchmark: class means, figures of measurements, and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.accuracy.few_shot import Measurement
from benchmarks.accuracy.few_shot_means import CLIP, MODEL, ClassMeans, class_means
from benchmarks.accuracy.few_shot_report import NAME, page, rows
from benchmarks.accuracy.few_shot_tasks import (
    CONCEPT,
    OWN,
    SEARCH,
    TASKS,
    TRAINED,
    Learning,
    NewClass,
    fashion,
    scenes,
)
from benchmarks.core.tables import record_environment
from diffcls.data.scenes.grammar import HELD_OUT, Group
from diffcls.metrics.statistics import wilson_interval
from diffcls.support.errors import UsageError


def test_class_means_are_the_nearest_neighbours_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 6)) * 2
    features = {k: centres[k] + rng.normal(size=(7, 6)) for k in range(4)}
    means = ClassMeans(features)
    centred = {k: rows - means.centre for k, rows in features.items()}
    units = {k: rows / np.linalg.norm(rows, axis=1, keepdims=True) for k, rows in centred.items()}
    reference = KNeighborsClassifier(1, metric="cosine").fit(
        np.stack([rows.mean(axis=0) for rows in units.values()]), list(units)
    )
    asked = rng.normal(size=(50, 6)) * 2
    np.testing.assert_array_equal(means(asked), reference.predict(asked - means.centre))


def test_the_scale_of_features_changes_no_class_mean() -> None:
    rng = np.random.default_rng(1)
    features = {k: rng.normal(size=(5, 3)) + k for k in range(3)}
    asked = rng.normal(size=(30, 3)) + 1
    larger = ClassMeans({k: 9 * rows for k, rows in features.items()})
    np.testing.assert_array_equal(ClassMeans(features)(asked), larger(9 * asked))


def test_new_classes_of_the_scenes_chose_no_setting_and_are_no_old_ones() -> None:
    found = list(scenes(Path(), None))
    tuned = {str(Group(kind)) for kind in HELD_OUT[4::5]}
    assert len(found) == 10 and not tuned & {new.name for new in found}
    new = found[0]
    assert all(item.label == new.label for item in new.own) and len(new.own) <= OWN
    assert new.label not in {item.label for item in new.old}


def test_more_images_begin_with_those_of_fewer_and_seeds_choose_others() -> None:
    new = next(scenes(Path(), None))
    ids = {
        (shots, seed): [item.image_id for item in new.shown(Learning(shots, seed))]
        for shots in (2, 5)
        for seed in (0, 1)
    }
    assert ids[5, 0][:2] == ids[2, 0] and len(set(ids[5, 0])) == 5 and ids[5, 0] != ids[5, 1]
    assert all(name.startswith("train/") for name in ids[5, 0])
    assert all(item.image_id.startswith("test/") for item in new.own)


def test_a_missing_model_is_named_with_the_command_that_trains_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--without Trouser --output-dir"):
        next(fashion(tmp_path, None))


def _run(method: str, recalled: list[bool], after: list[bool], **more: Any) -> dict[str, Any]:
    facts = {"task": "fashion_mnist", "class": "Bag", "model": "m", "shots": 5, "seed": 0}
    facts |= {"settings": {}, "commit": "c", "old_images": ["a", "b"]}
    return {
        **facts,
        "method": method,
        "recalled": recalled,
        "old_right": after,
        "old_right_before": [True, True],
        **more,
    }


SAMPLED = {"samples": 100, "agreed": 72, "judge_right": 9, "judge_images": 10}


def test_rows_are_means_over_seeds_and_losses_are_paired() -> None:
    runs = [
        _run(CONCEPT, [True, False], [True, True], seconds=3.0, **SAMPLED),
        _run(CONCEPT, [True, True], [False, True], seed=1, seconds=5.0),
    ]
    (row,) = rows(runs)
    assert (row["recall"], row["n"], row["seeds"], row["seconds"]) == (0.75, 4, 2, 4.0)
    assert (row["old_before"], row["old_after"], row["old_lost"]) == (1.0, 0.75, 0.25)
    assert row["old_lost_high"] >= row["old_lost"] and row["old_n"] == 2
    assert (row["agreed"], row["judge_accuracy"]) == (0.72, 0.9)
    assert row["judge"] == TASKS["fashion_mnist"].clip
    assert row["supervision"] == "few-shot, 5 images"


def test_a_row_says_that_its_clip_was_trained_with_the_class() -> None:
    fashion = _run(CLIP, [True], [True, True])
    (known,) = rows([fashion])
    (unseen,) = rows([fashion | {"task": "scenes"}])
    assert known["supervision"] == "few-shot, 5 images; CLIP was trained with the class"
    assert unseen["supervision"] == "few-shot, 5 images"


def test_recall_is_asked_for_relative_to_the_model_that_knows_the_class(tmp_path: Path) -> None:
    record_environment(tmp_path, NAME)
    known = _run(TRAINED, [True] * 10, [True, True])
    old = {"old_images": [*map(str, range(100))], "old_right_before": [True] * 100}
    good = _run(CONCEPT, [True] * 9 + [False], [True] * 100, seconds=1.0, **SAMPLED, **old)
    bad = good | {"recalled": [True] * 8 + [False] * 2, "old_right": [True] * 98 + [False] * 2}
    means = _run(MODEL, [True] * 8 + [False] * 2, [True, True])
    text = "\n".join(page(list(rows([known, good, means])), tmp_path))
    assert "recall of at least 90.0%, 90% of the model trained with it: met." in text
    assert "no less than the nearest class mean, the model's features, 80.0%: met." in text
    assert "lose at most 3%: met." in text and "At least 70%: met." in text
    text = "\n".join(page(list(rows([known, bad, means])), tmp_path))
    assert "the model trained with it: missed." in text and "lose at most 3%: missed." in text


def test_what_was_never_seen_to_fail_is_not_certain() -> None:
    # one-sided bound of a share that n images never show: (1 − p)^n = 0.05
    for n in (100, 300):
        old = {"old_images": [*map(str, range(n))], "old_right_before": [True] * n}
        (row,) = rows([_run(CONCEPT, [True] * 50, [True] * n, seconds=1.0) | old])
        assert (1 - row["old_lost_high"]) ** n == pytest.approx(0.05)
        assert row["ci_low"] == pytest.approx(wilson_interval(50, 50)[0]) and row["ci_high"] == 1
    classes = [_run(CONCEPT, [True] * k + [False] * (10 - k), [True, True]) for k in (3, 6, 9)]
    runs = [one | {"class": str(k)} for k, one in enumerate(classes)]
    row = next(iter(rows(runs)))
    low, high = stats.t.interval(0.95, 2, loc=0.6, scale=stats.sem([0.3, 0.6, 0.9]))
    assert row["class"] == "all" and low < 0 and high > 1
    assert (row["ci_low"], row["ci_high"]) == (0, 1)


def test_a_measurement_is_named_by_all_that_decides_on_it() -> None:
    new = next(scenes(Path(), None))
    found = Measurement(new)._revisions(CONCEPT)
    assert found["revision"] == new.classifier().denoiser.card.revision
    assert found["search"] == SEARCH and found["settings"]["learning_rate"] > 0
    assert Measurement(new)._revisions(MODEL)["settings"] == {}


@pytest.mark.slow
def test_a_measured_class_is_kept_on_disk(tmp_path: Path) -> None:
    task = TASKS["scenes"]
    new = NewClass(task, 0, str(Group(HELD_OUT[0])), "scenes")
    means = class_means(new, Learning(5, 0), MODEL)
    chance = 1 / len(new.names)
    assert len(means["recalled"]) == len(new.own) and np.mean(means["old_right"]) > 5 * chance
    measured = Measurement(new)
    found = measured._words(new.model)
    assert np.mean(found["recalled"]) > 0.5 and np.mean(found["old_right"]) > 0.9
