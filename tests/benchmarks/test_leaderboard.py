"""Leaderboard benchmark: its runs, and the page made from stored records."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from benchmarks.accuracy.leaderboard import LEADERBOARD
from benchmarks.accuracy.leaderboard_report import write
from benchmarks.core.benchmark import Run
from diffcls.evaluate import parser
from diffcls.evaluation.options import EvaluationOptions, read_options
from diffcls.runs.records import Record
from diffcls.runs.summary import summarise


def test_leaderboard_has_every_method_on_every_data_set() -> None:
    runs = {r.label: options_of(r) for r in LEADERBOARD.runs}
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


class StoredRuns:
    """Rows and records of made-up runs."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.rows: dict[str, dict[str, Any]] = {}

    def add(
        self,
        label: str,
        correct: list[bool],
        scores: list[tuple[float, float]] | None = None,
        failed: Collection[int] = (),
    ) -> None:
        """Add a run with these correct predictions; failed images have no prediction."""
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
            for i, r in enumerate(correct)
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
        return write(LEADERBOARD, self.rows, self.output, missed or [])


def section(page: str, title: str) -> str:
    return page.split(f"## {title}")[1].split("\n## ")[0]


def test_report_lists_significant_differences_of_the_diffusion_method_only(tmp_path: Path) -> None:
    stored = StoredRuns(tmp_path)
    stored.add("digits: diffusion", [True] * 30 + [False] * 10)
    stored.add("digits: better", [True] * 40)
    stored.add("digits: a little better", [True] * 32 + [False] * 8)  # two images prove nothing
    stored.add("digits: worse", [True] * 5 + [False] * 35)
    losses, wins = (
        section(stored.page(), "Significant losses of the diffusion method"),
        section(stored.page(), "Significant wins of the diffusion method"),
    )
    assert "loses to better" in losses and losses.count("loses to") == 1
    assert "beats worse" in wins and wins.count("beats") == 1
    overview = section(stored.page(), "Accuracy")
    assert "| better | **100.0** |" in overview and overview.count("**") == 2
    assert "| better | 100.0% | 91.2% to 100.0% |" in section(stored.page(), "Every row")
    assert "| 0.002 |" in section(stored.page(), "Every row")  # 2·½¹⁰, McNemar's exact p


def test_report_needs_no_diffusion_row(tmp_path: Path) -> None:
    stored = StoredRuns(tmp_path)
    stored.add("digits: chance", [True, False] * 5)
    stored.add("digits: other", [True, True] * 5)
    stored.add("scenes/pairs: chance", [True] * 2, [(2.0, 1.0), (1.0, 2.0)])
    page = stored.page()
    assert section(page, "Significant losses of the diffusion method").strip().endswith("not run.")
    assert "loses to" not in page and "| 1.000 |" not in page
    assert "| other | **100.0** | – |" in section(page, "Accuracy")
    for row in section(page, "Every row").splitlines():
        if row.startswith(("| chance", "| other")):
            assert row.split(" | ")[7:9] == ["", ""]  # no diffusion row to compare with
    assert "| chance | group | 100.0% |" in section(page, "Pairs of images and texts")


def test_published_figures_have_a_section_of_their_own(tmp_path: Path) -> None:
    stored = StoredRuns(tmp_path)
    stored.add("cifar10: diffusion", [True] * 4)
    page = stored.page()
    assert "76.3" in section(page, "Published figures")
    assert "76.3" not in page.replace(section(page, "Published figures"), "")


def test_report_scores_pairs(tmp_path: Path) -> None:
    stored = StoredRuns(tmp_path)
    # the first pair is correct in all respects; in the second, both images prefer the second text
    scores = [(2.0, 1.0), (1.0, 2.0), (0.0, 1.0), (2.0, 3.0)]
    stored.add("scenes/pairs: diffusion", [True, True, False, True], scores)
    pairs = section(stored.page(), "Pairs of images and texts")
    assert "| diffusion | text | 50.0% |" in pairs
    assert "| diffusion | image | 50.0% |" in pairs
    assert "| diffusion | group | 50.0% |" in pairs


def test_pairs_are_compared_where_both_methods_scored_both_images(tmp_path: Path) -> None:
    stored = StoredRuns(tmp_path)
    good, bad = [(2.0, 1.0), (1.0, 2.0)], [(1.0, 2.0), (2.0, 1.0)]
    stored.add("scenes/pairs: diffusion", [True] * 24, good * 12, failed=[0])
    stored.add("scenes/pairs: clip", [True] * 2 + [False] * 22, good + bad * 11, failed=[23])
    stored.add("scenes/pairs: chance", [True], good[:1])  # one image of a pair
    pairs = section(stored.page(), "Pairs of images and texts")
    # eleven complete pairs each, ten of them in common, and all of these differ: 2·½¹⁰
    assert "| diffusion | group | 100.0% | 74.1% to 100.0% | 16.7 % |  |" in pairs
    assert "| clip | group | 9.1% | 1.6% to 37.7% | 16.7 % | 0.002 |" in pairs
    assert "| chance | group | no complete pair | | 16.7 % | |" in pairs
