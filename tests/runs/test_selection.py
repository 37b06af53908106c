"""Selection of stored runs by fingerprints and filters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.stored_runs import write_run

from diffcls.runs.row import COLUMNS
from diffcls.runs.selection import FILTERS, select
from diffcls.runs.stored import read_runs
from diffcls.support.errors import RecordError, UsageError

ANSWERS = {"a": (0, 0), "b": (1, 2)}


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """An output folder, and name -> fingerprint of its runs."""
    runs = {
        f"{dataset} {method} {seed}": write_run(
            tmp_path, ANSWERS, dataset=dataset, method=method, seed=seed
        )
        for dataset in ("pets", "food101")
        for method in ("diffusion", "clip")
        for seed in (0, 1)
    }
    runs["killed"] = write_run(tmp_path, ANSWERS, has_row=False, search="paper")
    return tmp_path, runs


def selected(written: tuple[Path, dict[str, str]], *given: str) -> list[str]:
    """Names of the selected runs."""
    out, runs = written
    names = {fingerprint: name for name, fingerprint in runs.items()}
    return [names[run.fingerprint] for run in select(read_runs(out), given)]


def test_filters_are_columns_of_the_leaderboard() -> None:
    assert set(FILTERS) <= set(COLUMNS)


def test_filters_of_different_columns_must_all_hold(
    written: tuple[Path, dict[str, str]],
) -> None:
    assert selected(written, "dataset=food101", "method=clip") == [
        "food101 clip 0",
        "food101 clip 1",
    ]


def test_of_several_values_of_a_column_any_may_hold(
    written: tuple[Path, dict[str, str]],
) -> None:
    found = selected(written, "method=clip", "method=diffusion", "dataset=food", "seed=1")
    assert found == ["food101 diffusion 1", "food101 clip 1"]


def test_runs_without_a_row_are_found_by_their_specification(
    written: tuple[Path, dict[str, str]],
) -> None:
    assert selected(written, "search=paper") == ["killed"]
    assert selected(written, "status=partial", "dataset=pets") == ["killed"]


def test_a_run_is_selected_once_at_its_first_place(
    written: tuple[Path, dict[str, str]],
) -> None:
    runs = written[1]
    last = runs["food101 clip 1"]
    found = selected(written, last[:12], "dataset=food101", "method=clip", last)
    assert found == ["food101 clip 1", "food101 clip 0"]


def test_every_unique_beginning_of_a_fingerprint_names_its_run(
    written: tuple[Path, dict[str, str]],
) -> None:
    runs = written[1]
    for name, fingerprint in runs.items():
        for length in range(1, 17):
            start = fingerprint[:length]
            if sum(other.startswith(start) for other in runs.values()) == 1:
                assert selected(written, start.upper()) == [name]
            else:
                with pytest.raises(UsageError, match="several runs"):
                    selected(written, start)


@pytest.mark.parametrize(
    "given, message",
    [
        (["0000000000000000"], "no run with this fingerprint"),
        (["pets"], "neither the fingerprint of a run nor a filter"),
        (["datset=pets"], "did you mean 'dataset'"),
        (["accuracy=1"], "unknown column of a filter"),
        (["dataset=pet"], "did you mean 'pets'"),
        (["dataset="], "filter without a value"),
        (["search=paper", "dataset=food101"], "no run fits all filters"),
    ],
)
def test_what_selects_nothing_is_refused(
    given: list[str], message: str, written: tuple[Path, dict[str, str]]
) -> None:
    with pytest.raises(UsageError, match=message):
        selected(written, *given)


def test_a_damaged_run_is_named_and_never_left_out_silently(
    written: tuple[Path, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    out, runs = written
    damaged = runs["pets clip 0"]
    (out / "runs" / damaged / "run.json").write_text("{")
    with pytest.raises(RecordError, match=f"run {damaged} is damaged"):
        selected(written, damaged[:12])
    assert "pets clip 1" in selected(written, "method=clip", "dataset=pets")
    assert caplog.text.count(f"run {damaged} is damaged and left out") == 1


def test_a_row_whose_records_are_gone_is_explained(
    written: tuple[Path, dict[str, str]],
) -> None:
    out, runs = written
    gone = runs["pets clip 0"]
    shutil.rmtree(out / "runs" / gone)
    with pytest.raises(UsageError, match="its records are not in the output folder"):
        selected(written, gone)


def test_a_leaderboard_without_any_records_is_refused(
    written: tuple[Path, dict[str, str]],
) -> None:
    out, runs = written
    shutil.rmtree(out / "runs")
    for given in ("method=clip", runs["pets clip 0"]):
        with pytest.raises(UsageError, match="no records of its runs"):
            selected(written, given)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--output-dir holds no runs"):
        read_runs(tmp_path)


def test_the_fit_of_a_run_to_a_budget_is_no_damaged_run(
    written: tuple[Path, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    out, _ = written
    folder = out / "runs" / "0123456789abcdef"
    folder.mkdir()
    (folder / "budget-01234567.json").write_text('{"options": {}, "images": 3}')
    assert read_runs(out).damaged == ()
    (folder / "records-0-of-1.jsonl").touch()  # a run that began
    assert [run.fingerprint for run in read_runs(out).damaged] == [folder.name]
