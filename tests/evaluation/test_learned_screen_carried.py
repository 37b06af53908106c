"""Fits of --search learned that are carried over to other classes by --fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.learned_runs import (
    CLASSES,
    SMALL,
    analytic_model,
    first,
    fit_file,
    refused,
    run,
    saved_photos,
)

from diffcls.classifiers import learned_screen
from diffcls.classifiers.screen_fit import Parts
from diffcls.support.cache import read_arrays
from diffcls.support.errors import DataError
from diffcls.support.hashing import hash_file

__all__ = ["analytic_model", "first", "refused"]


def test_a_fit_of_another_label_set_is_calibrated_for_its_new_classes(
    first: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learned_screen, "fit_regression", lambda *_: pytest.fail("fitted"))
    path = fit_file(first[0])
    row = run(tmp_path, dataset="scenes:24", fit=str(path), limit=4, quiet=False)
    assert row["n_scored"] == 4
    own, other = (read_arrays(fit_file(folder), "fit") for folder in (tmp_path, first[0]))
    shown = capsys.readouterr().err
    assert f"{float(own['survival']):.1%} or more (34 calibration images)" in shown
    # the regression is that of the other, all else is measured on these prompts
    for name in ("axes", "image_w1", "class_w2", "beta", "prompts"):
        assert np.array_equal(own[name], other[name])
    assert not np.array_equal(own["covariance"], other["covariance"])
    assert len(other["components"]) == CLASSES and len(own["components"]) == 24
    assert own["components"].shape[1] == other["components"].shape[1]
    assert "fit=" in row["setting"] and "fit=digits/train" not in row["setting"]


def test_a_file_that_is_no_fit_of_this_model_is_refused(
    refused: Callable[..., str], first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    missing = tmp_path / "missing.npz"
    assert "--fit: file not found" in refused(*SMALL, "--fit", missing)
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    assert "--fit is not the whole fit" in refused(*SMALL, "--fit", text)
    np.savez(tmp_path / "arrays.npz", axes=np.zeros(3))
    assert "--fit is not the whole fit of a learned screen" in refused(
        *SMALL, "--fit", tmp_path / "arrays.npz"
    )
    path = fit_file(first[0])
    arrays: dict[str, Any] = read_arrays(path, "fit")
    defined_by = json.loads(str(arrays["defined_by"]))
    version, model = defined_by["version"], defined_by["model"]
    for name, value in (("model", ["sd2-base", "abc"]), ("version", version - 1)):
        changed = np.array(json.dumps({**defined_by, name: value}))
        np.savez(tmp_path / "other.npz", **{**arrays, "defined_by": changed})
        message = refused(*SMALL, "--draws", "8", "--fit", tmp_path / "other.npz")
        shown, own = (" ".join(value), " ".join(model)) if name == "model" else (value, version)
        assert f"--fit was made with another {name}: '{name} {shown}'" in message
        assert f"allowed: {name} {own}" in message
    # earlier versions repeated a part of the definition, which is not read
    path = tmp_path / "earlier.npz"
    np.savez(path, **arrays, settings=np.array("{}"))
    for flags, given in {
        ("--draws", "9"): "draws: 'draws 8'; allowed: draws 9",
        ("--draws", "8", "--seed", "1"): "seed: 'seed 0'; allowed: seed 1",
        ("--draws", "8", "--loss", "l1"): "loss: 'loss l2'; allowed: loss l1",
    }.items():
        assert f"--fit was made with another {given}" in refused(*SMALL, *flags, "--fit", path)


def test_images_of_the_carried_regression_calibrate_no_other_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = saved_photos(tmp_path / "photos", 130)
    parts: list[Parts] = []
    fit_prediction = learned_screen.fit_prediction

    def noted(*given: Any) -> Any:
        parts.append(given[2])
        return fit_prediction(*given)

    monkeypatch.setattr(learned_screen, "fit_prediction", noted)
    folder = str(photos)
    run(tmp_path / "a", fit_folder=folder, fit_images=60, limit=2)
    path = fit_file(tmp_path / "a")
    run(tmp_path / "b", dataset="scenes:24", fit=str(path), fit_folder=folder, limit=2)
    old, new = parts
    names = {item.image_id for item in old.regression}
    regression = set(json.loads(str(read_arrays(path, "fit")["fitted_on"])))
    assert regression == {hash_file(photos / name) for name in names}
    assert not new.regression
    others = {item.image_id for item in (*new.residual, *new.calibration)}
    assert len(others) == 50 and not others & names  # as many as were asked for
    # too few others: refused, not shared
    spare = [file for file in sorted(photos.rglob("*.png")) if hash_file(file) not in regression]
    for file in spare[49:]:
        file.unlink()
    with pytest.raises(DataError, match=r"too few.*without those of the regression of --fit"):
        run(tmp_path / "c", dataset="scenes:24", fit=str(path), fit_folder=folder, limit=2)


@pytest.mark.parametrize("flag", ["--fit", "--fit-folder"])
def test_a_fit_where_all_classes_race_is_refused(
    refused: Callable[..., str], first: tuple[Path, dict[str, Any]], tmp_path: Path, flag: str
) -> None:
    value = fit_file(first[0]) if flag == "--fit" else tmp_path
    message = refused("--candidates", "10", "--draws", "8", flag, value)
    assert f"{flag} is of no use: all 10 classes race" in message
