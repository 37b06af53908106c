"""Figures of the pages: from what the browser noted to seconds, rates and kept limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.core.chromium import WIDTHS, find_chromium
from benchmarks.core.tables import read_rows, record_environment, write_rows
from benchmarks.speed import pages
from diffcls.support.errors import DiffclsError

RACE = {
    "begun": 1000.0,
    "updates": [
        {"at": 1500.0, "answered": False},
        {"at": 1700.0, "answered": False},
        {"at": 2600.0, "answered": False},
        {"at": 3000.0, "answered": True},
        {"at": 9000.0, "answered": True},
    ],
    "complete": 9500.0,
}


def test_an_answer_is_timed_from_the_click_to_the_end_of_the_race() -> None:
    figures = pages.answer_figures(RACE)
    assert figures == {
        pages.FIRST_ANSWER: 2.0,
        pages.UPDATES: 2.0,  # four in two seconds; the later ones are no part of the race
        pages.PAUSE: pytest.approx(0.9),
        pages.COMPLETE: 8.5,
    }


def test_a_page_without_an_answer_is_an_error_not_a_figure() -> None:
    with pytest.raises(DiffclsError, match=r"no answer.*3 updates"):
        pages.answer_figures(RACE | {"updates": RACE["updates"][:3]})


def test_the_table_holds_the_median_and_the_range() -> None:
    (row,) = pages.rows_of({pages.OPENING: [3.0, 0.5, 1.0, 9.0, 2.0]})
    assert row == {
        "measure": "report opens",
        "unit": "s",
        "median": 2.0,
        "lowest": 0.5,
        "highest": 9.0,
        "processes": 5,
        "limit": 2.0,
        "bound": "at most",
    }


@pytest.mark.parametrize(
    ("measure", "median", "kept"),
    [
        (pages.FIRST_ANSWER, 5.0, True),
        (pages.FIRST_ANSWER, 5.01, False),
        (pages.UPDATES, 2.0, True),
        (pages.UPDATES, 1.99, False),
        (pages.SIZE, 5.0, True),
        (pages.SIZE, 5.1, False),
        (pages.OPENING, 2.1, False),
        (pages.COMPLETE, 99.0, None),
    ],
)
def test_a_limit_is_kept_on_its_own_side(measure: str, median: float, kept: bool | None) -> None:
    (row,) = pages.rows_of({measure: [median]})
    assert pages.within_limit(row) is kept


def test_a_missed_limit_is_shown_and_fails_the_benchmark(tmp_path: Path) -> None:
    samples = {pages.FIRST_ANSWER: [4.0], pages.UPDATES: [1.5], pages.COMPLETE: [7.0]}
    write_rows(tmp_path / pages.TABLE, pages.rows_of(samples), pages.COLUMNS)
    record_environment(tmp_path, "pages", cores=2, browser="1.0")
    assert pages.main(["--report-only", "--output-dir", str(tmp_path)]) == 1
    lines = (tmp_path / pages.PAGE).read_text(encoding="utf-8").splitlines()
    assert "| first answer | 4.00 s | 4.00 to 4.00 | 1 | at most 5 s | yes |" in lines
    assert (
        "| live updates | 1.50 per second | 1.50 to 1.50 | 1 | at least 2 per second | no |"
        in lines
    )
    assert lines[-1].endswith("| 7.00 s | 7.00 to 7.00 | 1 |  |  |")
    write_rows(
        tmp_path / pages.TABLE,
        [row for row in read_rows(tmp_path / pages.TABLE) if row["measure"] != pages.UPDATES],
        pages.COLUMNS,
    )
    assert pages.main(["--report-only", "--output-dir", str(tmp_path)]) == 0


def test_the_browser_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("named", "my-browser"), ("path", "chromium-browser")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("#!/bin/sh\n")
        (tmp_path / folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("DIFFCLS_CHROMIUM", raising=False)
    assert find_chromium() == str(tmp_path / "path/chromium-browser")
    monkeypatch.setenv("DIFFCLS_CHROMIUM", str(tmp_path / "named/my-browser"))
    assert find_chromium() == str(tmp_path / "named/my-browser")
    monkeypatch.setenv("DIFFCLS_CHROMIUM", str(tmp_path / "none"))
    assert find_chromium() is None  # another one is no answer to a wrong name


def test_pages_are_judged_on_a_laptop_and_on_a_phone() -> None:
    assert list(WIDTHS) == [1280, 390]


def test_a_folder_without_runs_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pages.main(["--results", str(tmp_path), "--output-dir", str(tmp_path)]) == 2
    assert "--results has no runs to report" in capsys.readouterr().err
