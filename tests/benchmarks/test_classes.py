"""Scaling benchmark: stored answers, comparison with racing, resuming, and the page."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from benchmarks.core.tables import read_rows
from benchmarks.speed import (
    classes,
    classes_answers,
    classes_measure,
    classes_report,
    classes_runs,
)
from benchmarks.speed.classes_answers import Answers
from diffcls.data.load import load_dataset
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
FITTED = {"fit", "fit_evaluations"}


def test_a_row_is_measured() -> None:
    row = classes_measure.measure("classes", classes=12, search="gradient", images=2, batch=8)
    assert set(row) == set(classes.COLUMNS) - COMPARED - FITTED
    assert row["images"] == 2 and 0 <= row["ci_low"] <= row["accuracy"] <= row["ci_high"] <= 1
    # two draws of three evaluations screen 12 classes to 10, which race for at least two draws
    assert row["evaluations_per_image"] >= 2 * 3 + 2 * Gradient().candidates


def answered(search: str, predicted: str, raced: Any = None, **more: Any) -> Answers:
    """Answers on four images of classes 0 to 3 among 1,000."""
    return Answers(
        classes=1000,
        search=search,
        image_ids=IDS,
        labels=(0, 1, 2, 3),
        predicted=tuple(map(int, predicted)),
        evaluations=(40, 60, 40, 60),
        raced=raced,
        **more,
    )


RACE = answered("racing", "0127")
SHORT = ((0, 5), (5, 1), (5, 4), (3, 9))


def test_a_search_is_compared_with_racing_image_by_image() -> None:
    # racing is correct on a, b, c; gradient on a, d; its screen keeps racing's class on a, b
    screen = answered("gradient", "0553", SHORT)
    row = classes.row_of(screen, RACE)
    assert tuple(row) == classes.COLUMNS
    assert row["recall"] == 0.5 and row["lost_to_racing"] == 0.25
    assert row["evaluations_per_image"] == 50
    assert row["mcnemar_p_vs_racing"] == pytest.approx(mcnemar_exact([1, 0, 0, 1], [1, 1, 1, 0]))
    # both are right on a, gradient alone on d, racing alone on b and c
    interval = newcombe_interval(1, 1, 2, 0)
    assert (row["difference_low"], row["difference_high"]) == interval
    assert interval[0] < -0.25 < interval[1]
    own = classes.row_of(RACE, RACE)
    assert own["lost_to_racing"] == 0 and own["recall"] == 1
    assert own["difference_low"] <= 0 <= own["difference_high"]
    # without racing's answers to the same images there is nothing to compare
    for race in (None, Answers(1000, "racing", ("a",), (0,), (0,), (1,))):
        assert all(classes.row_of(screen, race)[name] is None for name in COMPARED)


def test_the_cost_of_a_fit_is_stated_per_image_scored() -> None:
    fitted = answered("learned", "0123", SHORT, fit="fit=train", fit_evaluations=1000)
    row = classes.row_of(fitted, RACE)
    assert row["fit"] == "fit=train" and row["fit_evaluations"] == 250.0
    assert classes.row_of(RACE, RACE)["fit_evaluations"] is None


def test_stored_answers_are_read_as_they_were(tmp_path: Path) -> None:
    screen = answered("learned, carried over", "0553", SHORT, fit="fit=12", fit_evaluations=7)
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


def test_a_carried_over_fit_is_of_numbers_of_classes_that_it_has_not() -> None:
    run = classes_runs.SEARCH_RUNS["learned, carried over"]
    assert run.fitted_on is not None and run.most_classes is not None
    fitted, rest = (load_dataset(n, "test").class_names for n in (run.fitted_on, "scenes:300"))
    assert run.most_classes == len(rest) and set(fitted).isdisjoint(rest)
    assert [count for count in classes.CLASSES if run.is_for(count)] == [30, 100, 300]


Started = list[tuple[Any, ...]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What the benchmark would run: (classes, search, images) of all runs, short ones by `what`."""
    calls: Started = []

    def long_run(count: int, name: str, images: int, output: Path) -> Answers:
        calls.append((count, name, images))
        ids = tuple(f"test/{n}" for n in range(images))
        zeros = (0,) * images
        return Answers(count, name, ids, zeros, zeros, (50,) * images)

    def in_a_process(arguments: dict[str, Any]) -> dict[str, Any]:
        calls.append(
            (arguments["classes"], arguments["search"], arguments["images"], arguments["what"])
        )
        measured = dict.fromkeys(classes.SPEEDS, 50.0) | dict.fromkeys(
            ("accuracy", "ci_low", "ci_high", "evaluations_per_image"), 0.5
        )
        return {"batch": 64, **measured, **arguments}

    monkeypatch.setattr(classes, "long_run", long_run)
    monkeypatch.setattr(classes, "_in_a_process", in_a_process)
    return calls


def rows(output: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    with open(output / "growth.csv", encoding="utf-8", newline="") as file:
        table = [*csv.DictReader(file)]
    return {(row["what"], row["classes"], row["search"]): row for row in table}


@pytest.mark.slow
def test_a_stopped_benchmark_resumes_and_a_search_is_measured_alone(
    tmp_path: Path, started: Started
) -> None:
    command = ["--output-dir", str(tmp_path), "--classes", "10", "30", "--images", "500"]
    assert classes.main(command) == 0
    assert [one for one in started if len(one) == 3] == [
        *((10, name, 500) for name in ("racing", "gradient", "learned")),
        *((30, name, 500) for name in classes_runs.SEARCH_RUNS),
    ]
    table = rows(tmp_path)
    row = table["classes", "30", "gradient"]
    # accuracy is of the long run; time and memory are of the short one
    assert (row["images"], row["accuracy"], row["memory_mib"]) == ("500", "1", "50")
    assert (30, "gradient", 100, "classes") in started
    assert ("memory", "30", "exhaustive") in table
    # everything is stored
    started.clear()
    assert classes.main(command) == 0 and started == []
    assert rows(tmp_path) == table
    # a lost answer is measured again, with nothing else
    (tmp_path / classes_answers.FOLDER / "classes-30-gradient.json").unlink()
    assert classes.main(command) == 0 and started == [(30, "gradient", 500)]
    started.clear()
    assert classes.main([*command, "--only", "gradient", "--again"]) == 0
    assert {one[1] for one in started} == {"gradient"} and len(started) == 4
    started.clear()
    assert classes.main([*command, "--only", "racing", "--timing"]) == 0
    assert started == [(10, "racing", 100, "classes"), (30, "racing", 100, "classes")]
    assert rows(tmp_path) == table
    # answers of another number of images are no answers
    started.clear()
    assert classes.main([*command[:-1], "501", "--only", "racing"]) == 0
    assert started == [(10, "racing", 501), (30, "racing", 501)]


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
    screen = answered("learned", "0553", SHORT, fit="fit=train", fit_evaluations=400)
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
    classes_report.write_page(read_rows(tmp_path / "growth.csv"), tmp_path)
    page = (tmp_path / "GROWTH.md").read_text(encoding="utf-8")
    low, high = newcombe_interval(1, 1, 2, 0)
    assert f"| 50.0% | -25.0% | {low:+.1%} to {high:+.1%} | 1.000 |" in page
    assert "| 50.0 | 100.0 | 1.00 | 50 | 0.1 | 50 |" in page
    assert "- fit of `learned`: fit=train" in page
    text = "1,000 classes take 1.50 times the memory of 100 and 1.5 times the evaluations of 100."
    assert f"- `learned`: {text}" in page
    assert "| classes | 1,000 | racing | 4 |  | 75.0% |" in page
    with open(tmp_path / "growth.csv", encoding="utf-8") as file:
        assert tuple(next(csv.reader(file))) == classes.COLUMNS


@pytest.mark.slow
def test_a_long_run_is_an_evaluation_whose_shortlists_and_fit_are_found(tmp_path: Path) -> None:
    answers = classes_runs.long_run(12, "gradient", 3, tmp_path)
    classes_answers.save(answers, tmp_path)
    assert classes_answers.read(12, "gradient", tmp_path) == answers
    assert len(answers.image_ids) == 3 and answers.fit is None
    assert answers.raced is not None and {len(raced) for raced in answers.raced} == {10}
    assert all(k in raced for k, raced in zip(answers.predicted, answers.raced, strict=True))
    race = classes_runs.long_run(12, "racing", 3, tmp_path)
    assert race.image_ids == answers.image_ids and race.raced is None
    assert 0 <= answers.recall(race) <= 1
