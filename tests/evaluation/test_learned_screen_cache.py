"""The fit of --search learned: stored, read back, and repeated where it would be another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.learned_runs import (
    CLASSES,
    LIMIT,
    analytic_model,
    first,
    fit_file,
    fits,
    no_fit,
    records,
    run,
    saved_photos,
)

from diffcls.classifiers import learned_screen
from diffcls.runs.records import RecordStore
from diffcls.search import learned
from diffcls.support.cache import read_arrays
from diffcls.support.errors import RecordError

__all__ = ["analytic_model", "first", "fits", "no_fit"]


def test_repeated_run_fits_nothing(
    first: tuple[Path, dict[str, Any]], fits: Path, no_fit: None
) -> None:
    again = run(fits)
    assert {k: v for k, v in again.items() if k in ("fingerprint", "accuracy", "setting")} == {
        k: first[1][k] for k in ("fingerprint", "accuracy", "setting")
    }
    assert records(fits) == records(first[0])


def test_interrupted_run_goes_on_with_the_same_answers(
    first: tuple[Path, dict[str, Any]], fits: Path, no_fit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, seen = RecordStore.append, []

    def cut_off(store: RecordStore, record: Any) -> None:
        append(store, record)
        seen.append(record)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RecordStore, "append", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(fits)
    assert len(records(fits)) == 4
    assert run(fits)["n_scored"] == LIMIT
    assert records(fits) == records(first[0])


def test_truncated_fit_is_reported(fits: Path) -> None:
    path = fit_file(fits)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecordError, match=r"cannot be read.*delete the file"):
        run(fits)
    assert not records(fits)


def test_a_fit_is_another_with_other_images_classes_or_options(
    first: tuple[Path, dict[str, Any]], fits: Path, tmp_path: Path, no_fit: None
) -> None:
    photos = saved_photos(tmp_path / "photos", 50)
    changes: list[dict[str, Any]] = [
        {"fit_images": 51},
        {"fit_classes": 11},
        {"fit_folder": str(photos)},
        {"draws": 9},
        {"confidence": 0.9},
        {"template": "{}"},
        {"seed": 1},
    ]
    rows = [run(fits, dry_run=True, **change) for change in changes]
    found = {row["fingerprint"] for row in rows}
    assert len(found) == len(changes) and first[1]["fingerprint"] not in found
    # none of them finds its fit in the cache, and each states what it takes; with another
    # confidence the regression stays
    takes = [row.pop("fit_evaluations") for row in rows]
    calibration = takes.pop(4)
    assert 12 * CLASSES < calibration < 1000 < min(takes)
    assert run(fits, dry_run=True)["fingerprint"] == first[1]["fingerprint"]


def test_another_confidence_changes_the_calibration_alone(
    first: tuple[Path, dict[str, Any]], fits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fit_file(fits)
    with monkeypatch.context() as patch:
        patch.setattr(learned_screen, "fit_prediction", lambda *_: pytest.fail("fitted again"))
        patch.setattr(learned, "SCREEN_SHARE", 0.2)  # or 12 images promise the same
        run(fits, confidence=0.1, limit=2)
    (after,) = set((fits / "fits").glob("learned-screen-*.npz")) - {before}
    old, new = read_arrays(before, "fit"), read_arrays(after, "fit")
    same = {name for name, array in old.items() if np.array_equal(array, new[name])}
    assert set(old) - same <= {"defined_by", "caution", "survival", "evaluations"}
    assert float(new["survival"]) < float(old["survival"])


def test_cost_and_promise_are_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, quiet=False, limit=2)
    shown = capsys.readouterr().err
    fit = read_arrays(fit_file(tmp_path), "fit")
    assert f"the screen was fitted by {int(fit['evaluations']):,} evaluations" in shown
    assert f"survives it with a probability of {float(fit['survival']):.1%} or more" in shown
    # 12 images cannot promise 99 %
    assert "(12 calibration images), less than the 99.5% of --confidence 0.95" in shown
    assert "diffusion is fitted first:" in shown
