"""The benchmarks: what they ask is what the protocol says, and their commands are commands."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from benchmarks import published, run
from benchmarks.benchmark import Benchmark
from diffcls.errors import UsageError
from diffcls.evaluate import parser
from diffcls.options import EvaluationOptions
from diffcls.planning import check_names, read_options

ROOT = Path(__file__).parents[1]
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


def load(name: str) -> Benchmark:
    found: Benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    return found


def test_evaluations_are_the_published_ones() -> None:
    assert {name: published.evaluations(name) for name in published.SETTINGS} == EVALUATIONS


def test_hours_follow_from_the_published_cost() -> None:
    # 30 s for a CIFAR-10 image on an A100
    assert published.hours("cifar10", "A100") == pytest.approx(10_000 * 30 / 3600)


def test_guide_holds_the_table() -> None:
    guide = (ROOT / "benchmarks/REPRODUCE.md").read_text(encoding="utf-8")
    assert published.table() in guide
    for name in published.SETTINGS:
        assert f"published_{name}" in run.names()


@pytest.mark.parametrize("name", run.names())
def test_every_run_is_a_command(name: str) -> None:
    benchmark = load(name)
    assert benchmark.name == name
    assert benchmark.reference in [r.label for r in benchmark.runs]
    for one in benchmark.runs:
        options = read_options(vars(parser().parse_args(list(one.arguments))))
        assert isinstance(options, EvaluationOptions)
        check_names(options)


def test_only_some_runs_may_be_asked_for() -> None:
    benchmark = load("published_pets")
    alone = run.select(benchmark, ["racing"])
    assert [r.label for r in alone.runs] == ["racing"] and alone.reference == "racing"
    assert run.select(benchmark, None) is benchmark
    with pytest.raises(UsageError, match="unknown run of this benchmark: 'race'"):
        run.select(benchmark, ["race"])


def test_what_follows_the_dashes_goes_to_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["digits", "--only", "halving", "--quiet", "--output-dir", str(tmp_path)]
    further = ["--", "--limit", "5", "--draws", "6"]
    assert run.main([*arguments, *further]) == 0
    report = (tmp_path / "digits.md").read_text(encoding="utf-8")
    assert report.strip() == capsys.readouterr().out.strip()
    assert "python -m diffcls.evaluate --search halving --limit 5 --draws 6" in report
    assert "5 of 5" in report
