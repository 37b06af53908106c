"""Accuracy benchmarks: their runs, the published table, and the runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.accuracy import digits, leaderboard, published, runner
from benchmarks.core.benchmark import Benchmark
from diffcls.classifiers.one_pass import BatchMethod
from diffcls.evaluate import parser
from diffcls.evaluation.options import EvaluationOptions, read_options
from diffcls.evaluation.plan import check_names
from diffcls.support.errors import UsageError

ROOT = Path(__file__).parents[2]
EVALUATIONS = {
    "food101": 5_570,
    "cifar10": 2_750,
    "fgvc_aircraft": 5_550,
    "pets": 2_050,
    "flowers102": 5_590,
    "stl10": 3_000,
    "imagenet": 124_500,
    "objectnet": 14_400,
}


BENCHMARKS = {**digits.BENCHMARKS, **leaderboard.BENCHMARKS, **published.BENCHMARKS}
PETS = published.BENCHMARKS["published_pets"]


def test_evaluations_are_the_published_ones() -> None:
    assert {name: published.evaluations(name) for name in published.SETTINGS} == EVALUATIONS


def test_hours_follow_from_the_published_cost() -> None:
    # 30 s for a CIFAR-10 image on an A100
    assert published.hours("cifar10", "A100") == pytest.approx(10_000 * 30 / 3600)


def test_guide_holds_the_table() -> None:
    guide = (ROOT / "benchmarks/REPRODUCE.md").read_text(encoding="utf-8")
    assert published.table() in guide
    assert set(published.BENCHMARKS) == {f"published_{name}" for name in EVALUATIONS}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_run_is_a_valid_command(name: str) -> None:
    benchmark: Benchmark = BENCHMARKS[name]
    assert benchmark.name == name
    assert benchmark.reference in [r.label for r in benchmark.runs]
    for one in benchmark.runs:
        options = read_options(vars(parser().parse_args(list(one.arguments))))
        assert isinstance(options, EvaluationOptions)
        check_names(options)


def test_a_part_of_the_runs_can_be_selected() -> None:
    alone = runner.select(PETS, ["racing"])
    assert [r.label for r in alone.runs] == ["racing"] and alone.reference == "racing"
    assert runner.select(PETS, None) is PETS
    with pytest.raises(UsageError, match="unknown run of this benchmark: 'race'"):
        runner.select(PETS, ["race"])


def test_flags_after_the_dashes_are_passed_to_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["digits", "--only", "halving", "--quiet", "--output-dir", str(tmp_path)]
    further = ["--", "--limit", "5", "--draws", "6"]
    assert run.main([*arguments, *further]) == 0
    report = (tmp_path / "digits.md").read_text(encoding="utf-8")
    assert report.strip() == capsys.readouterr().out.strip()
    assert "python -m diffcls.evaluate --search halving --limit 5 --draws 6" in report
    assert "5 of 5" in report


def test_report_is_reproduced_from_stored_records(tmp_path: Path) -> None:
    only = ["--only", "digits: chance", "digits: nearest class mean"]
    arguments = ["leaderboard", *only, "--quiet", "--output-dir", str(tmp_path)]
    assert run.main(arguments) == 0
    first = (tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert run.main(arguments) == 0
    assert (tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8") == first
    assert "| nearest class mean | **90.4** |" in first


@pytest.mark.slow
def test_images_scored_by_a_parallel_process_are_not_scored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("scored again")

    # in this process, not in the parallel ones
    monkeypatch.setattr(BatchMethod, "classify", refuse)
    arguments = ["leaderboard", "--only", "digits: chance", "--quiet", "--jobs", "2"]
    assert run.main([*arguments, "--output-dir", str(tmp_path), "--", "--limit", "20"]) == 0
    page = (tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert "| *images* | 20 |" in page
