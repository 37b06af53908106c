"""Compared checkpoints as text, CSV and picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffcls.reports import checkpoints
from diffcls.support.errors import UsageError


def row(name: str, images: int | None, accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "checkpoint": name,
        "training_images": images,
        "accuracy": accuracy,
        "accuracy_ci_low": accuracy - 0.05,
        "accuracy_ci_high": accuracy + 0.04,
        "accuracy_n_asked": 100,
        "accuracy_n_scored": 100,
        "accuracy_difference": None,
        "accuracy_p_previous": None,
        "accuracy_p_last": None,
        "curve_accuracy": None,
        **more,
    }


ROWS = [
    row("small@1,000", 1000, 0.5, accuracy_p_last=0.0123),
    row("small@2,000\x1b[2J", 2000, 0.75, accuracy_difference=0.25, accuracy_p_previous=0.0004,
        accuracy_n_scored=99, curve_accuracy=0.76),
]  # fmt: skip


def test_the_table_has_a_line_per_checkpoint_and_no_control_character() -> None:
    head, _, first, second = checkpoints.format_checkpoints(ROWS, ["accuracy"]).splitlines()
    assert head.split("  ")[0] == "checkpoint"
    assert first.split() == "small@1,000 1,000 50.0% [45.0%, 54.0%] 100 - - 0.012 -".split()
    cells = "small@2,000?[2J 2,000 75.0% [70.0%, 79.0%] 99 of 100 +25.0% 0.000 - 76.0%"
    assert second.split() == cells.split()


def test_columns_of_several_accuracies_have_names_of_their_own() -> None:
    rows = [one | {k.replace("accuracy", "counting"): v for k, v in one.items()} for one in ROWS]
    rows = [one | {"bits_per_dim": 3.25, "bits_per_dim_stderr": 0.125, "FID": 7.5} for one in rows]
    metrics = ["accuracy", "counting", "bits_per_dim", "FID"]
    table = checkpoints.format_checkpoints(rows, metrics)
    for column in ("accuracy [95 %]", "counting [95 %]", "counting p, last", "bits/dim", "FID"):
        assert table.splitlines()[0].count(column) == 1
    assert "3.250 ± 0.125" in table and "7.50" in table


def test_csv_has_every_figure_and_empty_cells_for_missing_ones() -> None:
    head, first, second = checkpoints.csv_lines([ROWS[0], ROWS[1] | {"FID": 1 / 3}])
    assert dict(zip(head, second, strict=True))["FID"] == "0.333333"
    assert dict(zip(head, first, strict=True))["FID"] == ""
    assert dict(zip(head, first, strict=True))["accuracy_p_last"] == "0.0123"


@pytest.mark.parametrize("images", [[1000, 2000], [None, 2000], [1000, 1000]])
def test_the_picture_is_drawn_with_and_without_training_images(
    tmp_path: Path, images: list[int | None]
) -> None:
    pytest.importorskip("matplotlib")
    rows = [one | {"training_images": n} for one, n in zip(ROWS, images, strict=True)]
    rows = [one | {"bits_per_dim": 3.0, "bits_per_dim_stderr": 0.1, "FID": 1.0} for one in rows]
    rows[0] |= {"checkpoint": "模型 $x^"}  # no formula, nor of the letters of the plot's font
    path = tmp_path / "checkpoints.png"
    checkpoints.plot_checkpoints(rows, ["accuracy", "bits_per_dim", "FID"], path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_plot_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "plot.txt", tmp_path / "missing" / "plot.png"):
        with pytest.raises(UsageError, match="cannot write this file"):
            checkpoints.check_plot(path)
    for text in (str(tmp_path), str(tmp_path / "missing" / "table.csv"), "x" * 500):
        with pytest.raises(UsageError, match="--csv"):
            checkpoints.csv_path(text)
    monkeypatch.setattr(checkpoints, "can_plot", lambda: False)
    with pytest.raises(UsageError, match="needs matplotlib"):
        checkpoints.check_plot(tmp_path / "plot.png")
