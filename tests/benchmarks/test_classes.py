"""Scaling benchmark: stored answers, comparison with racing, resuming, and the page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import classes, classes_answers, classes_measure, classes_report
from benchmarks.speed.classes_answers import MAX_STORED_SHORTLIST, Answers
from diffcls.metrics.statistics import mcnemar_exact, newcombe_interval
from diffcls.search.gradient import Gradient
from diffcls.support.errors import RecordError

IDS = ("a", "b", "c", "d")
COMPARED = {
    "recall",
    "lost_to_racing",
    "mcnemar_p_vs_racing",
    "difference_low",
    "difference_high",
}


def test_a_row_is_measured() -> None:
    row = classes_measure.measure("classes", classes=12, search="gradient", images=2, batch=8)
    answers = {"predicted", "raced", "labels", "evaluations"}
    assert set(row) == set(classes.COLUMNS) - COMPARED | answers
    assert row["images"] == 2 and 0 <= row["ci_low"] <= row["accuracy"] <= row["ci_high"] <= 1
    # two draws of three evaluations screen 12 classes to 10, which race for at least two draws
    assert row["evaluations_per_image"] >= 2 * 3 + 2 * Gradient().candidates
    assert sum(row["evaluations"].values()) == 2 * row["evaluations_per_image"]
    assert {len(raced) for raced in row["raced"].values()} == {Gradient().candidates}
    assert (row["fit"], row["fit_evaluations"]) == (None, 0)


def measured(search: str, predicted: str, raced: Any = None, **more: Any) -> dict[str, Any]:
    """A row of `classes_measure.measure` on four images of classes 0 to 3."""
    return {
        "what": "classes",
        "classes": 1000,
        "search": search,
        "images": 4,
        "batch": 64,
        "evaluations_per_image": 50.0,
        "images_per_second": 1.0,
        "evaluations_per_second": 50.0,
        "setup_seconds": 0.1,
        "memory_mib": 50.0,
        "accuracy": 0.5,
        "ci_low": 0.1,
        "ci_high": 0.9,
        "predicted": dict(zip(IDS, map(int, predicted), strict=True)),
        "labels": dict(zip(IDS, range(4), strict=True)),
        "evaluations": dict.fromkeys(IDS, 50),
        "raced": dict(zip(IDS, raced or [None] * 4, strict=True)),
        **more,
    }


RACE = classes_answers.answers_of(measured("racing", "0127"), None)
SHORT = [[0, 5], [5, 1], [5, 4], [3, 9]]


def test_a_search_is_compared_with_racing_image_by_image() -> None:
    # racing is correct on a, b, c; gradient on a, d; its screen keeps racing's class on a, b
    screen = classes_answers.answers_of(measured("gradient", "0553", SHORT), RACE)
    row = classes.row_of(screen, RACE)
    assert tuple(row) == classes.COLUMNS
    assert row["recall"] == 0.5 and row["lost_to_racing"] == 0.25
    assert row["mcnemar_p_vs_racing"] == pytest.approx(mcnemar_exact([1, 0, 0, 1], [1, 1, 1, 0]))
    # both are right on a, gradient alone on d, racing alone on b and c
    interval = newcombe_interval(1, 1, 2, 0)
    assert (row["difference_low"], row["difference_high"]) == interval
    assert interval[0] < -0.25 < interval[1]
    own = classes.row_of(RACE, RACE)
    assert own["lost_to_racing"] == 0 and own["recall"] == 1
    assert own["difference_low"] <= 0 <= own["difference_high"]
    # without racing's answers to the same images there is nothing to compare
    for race in (None, Answers(1000, "racing", ("a",), (0,), (0,), 1.0)):
        assert all(classes.row_of(screen, race)[name] is None for name in COMPARED)


def test_the_cost_of_a_fit_is_stated_per_image_scored() -> None:
    row = measured("learned", "0123", SHORT, fit="validation, 600 images", fit_evaluations=1000)
    found = classes.row_of(classes_answers.answers_of(row, RACE), RACE)
    assert found["fit"] == "validation, 600 images" and found["fit_evaluations"] == 250.0
    assert classes.row_of(RACE, RACE)["fit_evaluations"] is None


def test_stored_answers_are_read_as_they_were(tmp_path: Path) -> None:
    screen = classes_answers.answers_of(measured("learned, carried over", "0553", SHORT), RACE)
    for answers in (RACE, screen):
        assert classes_answers.read(1000, answers.search, tmp_path) is None
        classes_answers.save(answers, tmp_path)
        assert classes_answers.read(1000, answers.search, tmp_path) == answers
    assert classes_answers.read_all(tmp_path, ["racing", screen.search]) == [RACE, screen]
    path = tmp_path / classes_answers.FOLDER / "classes-1000-racing.json"
    whole = path.read_text(encoding="utf-8")
    for damaged in ("[]", "{}", whole[:-9], whole.replace("[0,1,2,7]", "[0,1,2]")):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(RecordError, match="file of growth answers cannot be read"):
            classes_answers.read(1000, "racing", tmp_path)


def test_of_long_shortlists_only_the_recall_of_racings_class_is_stored(tmp_path: Path) -> None:
    long = [[*kept, *range(100, 100 + MAX_STORED_SHORTLIST)] for kept in SHORT]
    answers = classes_answers.answers_of(measured("gradient", "0553", long), RACE)
    assert answers.raced is None and answers.raced_sizes == (MAX_STORED_SHORTLIST + 2,) * 4
    classes_answers.save(answers, tmp_path)
    read = classes_answers.read(1000, "gradient", tmp_path)
    assert read == answers and read.recall(RACE) == 0.5
    # where racing's predictions were others when they were stored, it is unknown
    other = classes_answers.answers_of(measured("racing", "0123"), None)
    assert read.recall(other) is None
    assert classes.row_of(read, other)["recall"] is None
    unknown = classes_answers.answers_of(measured("gradient", "0553", long), None)
    assert unknown.recall(RACE) is None


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of the processes that the benchmark would start."""
    calls: list[dict[str, Any]] = []

    def in_a_process(arguments: dict[str, Any]) -> dict[str, Any]:
        calls.append(arguments)
        kind = arguments["search"]
        ids = [f"test/{n}" for n in range(arguments["images"])]
        raced = None if kind != "gradient" else [[0, 1]] * len(ids)
        return measured("racing", "0123", **{}) | {
            **arguments,
            "batch": arguments.get("batch", 64),
            "predicted": dict.fromkeys(ids, 0),
            "labels": dict.fromkeys(ids, 0),
            "evaluations": dict.fromkeys(ids, 50),
            "raced": dict(zip(ids, raced or [None] * len(ids), strict=True)),
        }

    monkeypatch.setattr(classes, "_in_a_process", in_a_process)
    return calls


def rows(output: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    with open(output / "growth.csv", encoding="utf-8", newline="") as file:
        table = [*csv.DictReader(file)]
    return {(row["what"], row["classes"], row["search"]): row for row in table}


def test_a_stopped_benchmark_resumes_and_a_search_is_measured_alone(
    tmp_path: Path, started: list[dict[str, Any]]
) -> None:
    command = ["--output-dir", str(tmp_path), "--classes", "10", "30", "--images", "500"]
    assert classes.main(command) == 0
    long = [one for one in started if one["what"] == "classes" and one["images"] == 500]
    assert [(one["classes"], one["search"]) for one in long] == [
        (10, "racing"),
        (30, "racing"),
        (10, "gradient"),
        (30, "gradient"),
    ]
    table = rows(tmp_path)
    row = table["classes", "30", "gradient"]
    # accuracy is of the long run; time and memory are of the short one
    assert (row["images"], row["memory_mib"], row["batch"]) == ("500", "50", "64")
    assert {one["images"] for one in started if one["what"] == "classes"} == {500, 20}
    assert ("memory", "30", "exhaustive") in table
    # everything is stored, also what was asked for in another command
    started.clear()
    assert classes.main(command) == 0 and started == []
    assert rows(tmp_path) == table
    # a lost answer is measured again, with nothing else
    (tmp_path / classes_answers.FOLDER / "classes-30-gradient.json").unlink()
    assert classes.main(command) == 0
    assert [(one["classes"], one["search"], one["images"]) for one in started] == [
        (30, "gradient", 500)
    ]
    started.clear()
    assert classes.main([*command, "--only", "gradient", "--again"]) == 0
    assert {one["search"] for one in started} == {"gradient"} and len(started) == 4
    started.clear()
    assert classes.main([*command, "--only", "racing", "--timing"]) == 0
    assert [(one["classes"], one["images"]) for one in started] == [(10, 20), (30, 20)]
    assert rows(tmp_path) == table
    # answers of another number of images are no answers
    started.clear()
    assert classes.main([*command[:-1], "501", "--only", "racing"]) == 0
    assert [one["images"] for one in started] == [501, 501]


def test_fewer_images_and_unknown_searches_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["--images", "499"], "--images out of range: 499; allowed: 500 or more"),
        (["--only", "tree"], "unknown search of this benchmark: 'tree'"),
    ):
        assert classes.main([*arguments, "--output-dir", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_page_has_ratios_intervals_and_fits(tmp_path: Path) -> None:
    fit: dict[str, Any] = {"fit": "validation, 600 images", "fit_evaluations": 400}
    screen = classes_answers.answers_of(measured("learned", "0553", SHORT, **fit), RACE)
    table = []
    for count, memory, evaluations in ((100, 50.0, 50.0), (1000, 75.0, 75.0)):
        row = classes.row_of(screen, RACE)
        speeds = {"images_per_second": 1.0, "evaluations_per_second": 50.0, "setup_seconds": 0.1}
        table.append(
            {**row, **speeds, "classes": count, "memory_mib": memory, "batch": 64}
            | {"evaluations_per_image": evaluations}
        )
    # a row whose times were not measured yet
    table.append(classes.row_of(RACE, RACE))
    classes.save(table, tmp_path)
    classes_report.write_page(classes.read_rows(tmp_path / "growth.csv"), tmp_path)
    page = (tmp_path / "GROWTH.md").read_text(encoding="utf-8")
    low, high = newcombe_interval(1, 1, 2, 0)
    assert f"| 50.0% | -25.0% | {low:+.1%} to {high:+.1%} | 1.000 |" in page
    assert "| 50.0 | 100.0 | 1.00 | 50 | 0.1 | 50 |" in page
    assert "- fit of `learned`: validation, 600 images" in page
    text = "1,000 classes take 1.50 times the memory of 100 and 1.5 times the evaluations of 100."
    assert f"- `learned`: {text}" in page
    assert "| classes | 1,000 | racing | 4 |  | 75.0% |" in page
    with open(tmp_path / "growth.csv", encoding="utf-8") as file:
        assert tuple(next(csv.reader(file))) == classes.COLUMNS


def test_a_measurement_in_a_process_of_its_own_is_stored(tmp_path: Path) -> None:
    arguments = {"what": "classes", "classes": 12, "search": "gradient", "images": 2, "batch": 8}
    row = classes._in_a_process(arguments)
    answers = classes_answers.answers_of(row, None)
    classes_answers.save(answers, tmp_path)
    assert classes_answers.read(12, "gradient", tmp_path) == answers
    assert answers.evaluations is not None and len(answers.evaluations) == 2
    assert answers.raced is not None and set(answers.raced_sizes or ()) == {10}
    json.dumps(row)
