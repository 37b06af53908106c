"""The benchmarks: what they ask is what the protocol says, and their commands are commands."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from benchmarks import run
from benchmarks.accuracy import published
from benchmarks.accuracy.leaderboard_report import write
from benchmarks.core.benchmark import Benchmark, Run
from diffcls.classifiers.one_pass import BatchMethod
from diffcls.evaluate import parser
from diffcls.evaluation.options import EvaluationOptions, read_options
from diffcls.evaluation.plan import check_names
from diffcls.runs.records import Record
from diffcls.runs.summary import summarise
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


# ---- the leaderboard ---------------------------------------------------------------------------


def test_leaderboard_has_every_method_on_every_data_set() -> None:
    runs = {r.label: options_of(r) for r in load("leaderboard").runs}
    of_pairs = [label for label in runs if label.startswith("scenes/pairs: ")]
    even = [label for label in runs if label.endswith("even draws")]
    assert len(runs) == 7 * 7 + len(of_pairs) + len(even)
    assert (len(of_pairs), len(even)) == (3, 3)
    for label, options in runs.items():
        dataset, _, method = label.partition(": ")
        assert options.dataset == dataset
        assert options.allocation == ("even" if method.endswith("even draws") else None)


def options_of(one: Run) -> EvaluationOptions:
    return read_options(vars(parser().parse_args(list(one.arguments))))


class Fake:
    """A leaderboard's rows and records, as runs would leave them."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.rows: dict[str, dict[str, Any]] = {}

    def add(
        self,
        label: str,
        right: list[bool],
        scores: list[tuple[float, float]] | None = None,
        failed: Collection[int] = (),
    ) -> None:
        """A run that is right on some of its images; those that failed have no answer."""
        fingerprint = f"{len(self.rows):016x}"
        folder = self.output / "runs" / fingerprint
        folder.mkdir(parents=True)
        records = [
            Record(
                fingerprint,
                f"test/{i}",
                i % 2,
                (i % 2, 1 - i % 2) if r else (1 - i % 2, i % 2),
                scores[i] if scores else (0.0, 0.0),
                3,
                0.01,
            )
            if i not in failed
            else Record(fingerprint, f"test/{i}", i % 2, (), (), 0, 0.0, "cannot be read")
            for i, r in enumerate(right)
        ]
        text = "".join(record.to_line() for record in records)
        (folder / "records-0-of-1.jsonl").write_text(text)
        about = {
            "fingerprint": fingerprint,
            "dataset": label.partition(": ")[0],
            "n_classes": 2,
            "supervision": "labels",
            "model": "made",
            "device": "d",
            "versions": "v",
            "commit": "c",
        }
        self.rows[label] = summarise(records, about, n_asked=len(records), posterior_scale=None)

    def page(self, missed: list[str] | None = None) -> str:
        return write(load("leaderboard"), self.rows, self.output, missed or [])


def section(page: str, title: str) -> str:
    return page.split(f"## {title}")[1].split("\n## ")[0]


def test_report_says_where_the_diffusion_method_loses_and_only_there(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.add("digits: diffusion", [True] * 30 + [False] * 10)
    fake.add("digits: better", [True] * 40)
    fake.add("digits: a little better", [True] * 32 + [False] * 8)  # two images prove nothing
    fake.add("digits: worse", [True] * 5 + [False] * 35)
    losses, wins = section(fake.page(), "Where the diffusion method loses").split("And where")
    assert "loses to better" in losses and losses.count("loses to") == 1
    assert "beats worse" in wins and wins.count("beats") == 1
    overview = section(fake.page(), "Accuracy")
    assert "| better | **100.0** |" in overview and overview.count("**") == 2
    assert "| better | 100.0% | 91.2% to 100.0% |" in section(fake.page(), "Every row")
    assert "| 0.002 |" in section(fake.page(), "Every row")  # 2·½¹⁰, McNemar's exact p


def test_report_needs_no_diffusion_row(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.add("digits: chance", [True, False] * 5)
    fake.add("digits: other", [True, True] * 5)
    fake.add("scenes/pairs: chance", [True] * 2, [(2.0, 1.0), (1.0, 2.0)])
    page = fake.page()
    assert section(page, "Where the diffusion method loses").strip().endswith("It was not run.")
    assert "loses to" not in page and "| 1.000 |" not in page
    assert "| other | **100.0** | – |" in section(page, "Accuracy")
    for row in section(page, "Every row").splitlines():
        if row.startswith(("| chance", "| other")):
            assert row.split(" | ")[7:9] == ["", ""]  # nobody to agree or to differ with
    assert "| chance | group | 100.0% |" in section(page, "Pairs of images and texts")


def test_report_keeps_published_figures_apart(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.add("cifar10: diffusion", [True] * 4)
    page = fake.page()
    assert "76.3" in section(page, "Published figures")
    assert "76.3" not in page.replace(section(page, "Published figures"), "")


def test_report_scores_pairs(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    # the first pair is right in every way, of the second each image prefers the second text
    scores = [(2.0, 1.0), (1.0, 2.0), (0.0, 1.0), (2.0, 3.0)]
    fake.add("scenes/pairs: diffusion", [True, True, False, True], scores)
    pairs = section(fake.page(), "Pairs of images and texts")
    assert "| diffusion | text | 50.0% |" in pairs
    assert "| diffusion | image | 50.0% |" in pairs
    assert "| diffusion | group | 50.0% |" in pairs


def test_pairs_are_compared_where_both_methods_scored_both_images(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    good, bad = [(2.0, 1.0), (1.0, 2.0)], [(1.0, 2.0), (2.0, 1.0)]
    fake.add("scenes/pairs: diffusion", [True] * 24, good * 12, failed=[0])
    fake.add("scenes/pairs: clip", [True] * 2 + [False] * 22, good + bad * 11, failed=[23])
    fake.add("scenes/pairs: chance", [True], good[:1])  # half a pair
    pairs = section(fake.page(), "Pairs of images and texts")
    # eleven whole pairs each, ten of them the same, and all of these differ: 2·½¹⁰
    assert "| diffusion | group | 100.0% | 74.1% to 100.0% | 16.7 % |  |" in pairs
    assert "| clip | group | 9.1% | 1.6% to 37.7% | 16.7 % | 0.002 |" in pairs
    assert "| chance | group | no whole pair | | 16.7 % | |" in pairs


def test_report_of_real_runs_is_made_again_from_their_records(tmp_path: Path) -> None:
    only = ["--only", "digits: chance", "digits: nearest class mean"]
    asked = ["leaderboard", *only, "--quiet", "--output-dir", str(tmp_path)]
    assert run.main(asked) == 0
    first = (tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert run.main(asked) == 0
    assert (tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8") == first
    assert "| nearest class mean | **90.4** |" in first


def test_what_a_process_leaves_is_not_scored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("scored again")

    # here, not in the processes
    monkeypatch.setattr(BatchMethod, "classify", refuse)
    asked = ["leaderboard", "--only", "digits: chance", "--quiet", "--jobs", "2"]
    assert run.main([*asked, "--output-dir", str(tmp_path), "--", "--limit", "20"]) == 0
    page = (tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert "| *images* | 20 |" in page
