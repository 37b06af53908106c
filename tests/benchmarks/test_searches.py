"""Search benchmark: points, stored predictions and the page."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.speed import answers as speed_answers
from benchmarks.speed import points, report, searches
from benchmarks.speed.points import Point
from diffcls.metrics.statistics import mcnemar_exact
from diffcls.search.racing import Racing
from diffcls.support.errors import RecordError

REFERENCE = Path(__file__).parents[2] / "results/reference"
LABELS = {f"test/{i}": i % 3 for i in range(12)}


def point(search: str, wrong: set[int], count: int = 12, **more: Any) -> Point:
    """A point that predicts the next class on the images in `wrong`."""
    predicted = {f"test/{i}": (i + (i in wrong)) % 3 for i in range(count)}
    options = {"setting": "default", "evaluations_per_image": 10.0, **more}
    return Point("digits", search, predicted=predicted, labels=LABELS, **options)


def test_a_search_is_compared_with_paper_on_their_common_images() -> None:
    paper = point("paper", {0, 1}, count=6, evaluations_per_image=2750.0)
    racing = point("racing", {1, 7}, images_per_second=5.0)
    row = racing.row(paper)
    assert tuple(row) == points.COLUMNS
    assert row["n"] == 12 and row["accuracy"] == pytest.approx(10 / 12, abs=1e-6)
    # of the six common images, one is correct in racing alone
    assert racing.drop_from(paper) == pytest.approx(-1 / 6)
    assert racing.disagreement(paper) == pytest.approx(1 / 6)
    correct = [i != 1 for i in range(6)], [i not in (0, 1) for i in range(6)]
    assert row["mcnemar_p_vs_paper"] == pytest.approx(mcnemar_exact(*correct))


def test_columns_of_the_table_are_those_of_the_contract() -> None:
    assert ",".join(points.COLUMNS) == (
        "benchmark,search,setting,n,accuracy,ci_low,ci_high,evaluations_per_image,"
        "images_per_second,mcnemar_p_vs_paper"
    )


def test_report_has_a_row_for_every_point_and_a_plot(tmp_path: Path) -> None:
    all_points = [
        point("exhaustive", set(), setting="draws=200", images_per_second=0.5),
        point("paper", {0, 1}, count=6, evaluations_per_image=2750.0, images_per_second=0.1),
        point("racing", {1, 7}, images_per_second=5.0),
        point("exhaustive", set(), setting="draws=40"),
        point("racing", {1}, setting="confidence=0.9 draws=40", evaluations_per_image=20.0),
        point("racing", {1, 2}, setting="confidence=0.9 draws=200", evaluations_per_image=30.0),
        point(
            "gradient", {3}, images_per_second=9.0, screened={f"test/{i}": [0] for i in range(12)}
        ),
    ]
    report.write(all_points, tmp_path)
    with open(tmp_path / "speed.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["search"] for row in rows] == [p.search for p in all_points]
    # a replayed search has no throughput
    assert [row["images_per_second"] for row in rows] == ["0.5", "0.1", "5.0", "", "", "", "9.0"]
    page = (tmp_path / "SPEED.md").read_text(encoding="utf-8")
    assert "| digits | racing | 12 | 83.3% |" in page and "275×" in page
    # racing misclassifies two of twelve images, the full table none
    assert "| -16.7% (6) | 1.000 | +16.7% (12) | 0.500 | 5.00 |" in page
    assert "| digits | racing | default | 10.0 | -16.7% (6) | 1.000 |" in page
    # a third of the labels are class 0, the whole shortlist of this screen
    assert "| digits | gradient | default | 33.3% | 33.3% | 8.3% |" in page
    assert "| confidence=0.9, N = 40 | 8.3% at 20 evaluations |" in page
    assert "| confidence=0.9, N = all draws | 16.7% at 30 evaluations |" in page
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_predictions_are_stored_and_read(tmp_path: Path) -> None:
    ranked = {f"test/{i}": (i % 3, 2) for i in range(12)}
    stored = (
        point("paper", {0, 1}, count=6, evaluations_per_image=2750.0, images_per_second=0.1),
        point("racing", {1, 7}, setting="confidence=0.9 draws=40", clear=0.25),
        point("gradient", {3}, images_per_second=9.0, screened=ranked),
    )
    assert speed_answers.read("digits", tmp_path) is None
    speed_answers.save(speed_answers.Answers("cpu, two threads", stored), tmp_path)
    read = speed_answers.read("digits", tmp_path)
    assert read is not None and read.environment == "cpu, two threads"
    for before, after in zip(stored, read.points, strict=True):
        assert after.row(read.points[0]) == before.row(stored[0])
        assert after.predicted == before.predicted and after.clear == before.clear
        assert {i: tuple(s) for i, s in after.screened.items()} == before.screened
    (file,) = (tmp_path / speed_answers.FOLDER).glob("*.json")
    file.write_text(file.read_text(encoding="utf-8").replace("[1,2]", "1]"), encoding="utf-8")
    with pytest.raises(RecordError, match="file of search answers cannot be read"):
        speed_answers.read("digits", tmp_path)


def test_benchmarks_left_out_stay_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = point("paper", {0, 1}, evaluations_per_image=2750.0, images_per_second=0.1)
    full = point("exhaustive", set(), setting="draws=200", images_per_second=0.5)
    monkeypatch.setattr(searches, "_make_all", lambda *_: None)

    def measure(one: searches.Measured, *_: Any) -> speed_answers.Answers:
        measured = tuple(replace(p, benchmark=one.dataset) for p in (full, paper))
        return speed_answers.Answers("cpu", measured)

    monkeypatch.setattr(searches, "measure", measure)
    for name in ("cifar10", "digits"):
        assert searches.main(["--only", name, "--output-dir", str(tmp_path)]) == 0
    with open(tmp_path / "speed.csv", encoding="utf-8") as file:
        rows = [row["benchmark"] for row in csv.DictReader(file)]
    assert rows == ["digits", "digits", "cifar10", "cifar10"]
    # without its stored answers, its rows stay in a section of their own
    before = (tmp_path / "speed.csv").read_bytes()
    (tmp_path / speed_answers.FOLDER / "cifar10.json").unlink()
    assert searches.main(["--only", "digits", "--output-dir", str(tmp_path)]) == 0
    assert (tmp_path / "speed.csv").read_bytes() == before
    page = (tmp_path / "SPEED.md").read_text(encoding="utf-8")
    compared, earlier = page.split("## Measured earlier")
    assert "cifar10" not in compared and "| digits |" not in earlier
    assert "| cifar10 | paper | default | 12 | 83.3% |" in earlier


def test_an_error_is_clear_beyond_two_standard_errors_of_the_full_table() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 40))
    far, near = noise.copy(), noise.copy()
    # two draws share a sign of the difference by chance: the error of the mean gap is √(2/40)
    far[1] += far[0].mean() - far[1].mean() + 3 * np.sqrt(2 / 40)
    near[1] += near[0].mean() - near[1].mean() + 1 * np.sqrt(2 / 40)
    clear = searches.clear_errors([far, far, near, near], np.array([1, 0, 1, 0]), 40)
    assert clear.tolist() == [True, False, False, False]


def test_images_of_several_benchmarks_are_pooled_not_their_means() -> None:
    few = point("racing", {0}, count=3, evaluations_per_image=40.0, images_per_second=1.0)
    many = point("racing", {0}, count=12, evaluations_per_image=10.0, images_per_second=4.0)
    both = points.pooled([few, replace(many, benchmark="fashion_mnist")], "both")
    assert len(both.predicted) == 15 and both.accuracy == pytest.approx(13 / 15)
    assert both.evaluations_per_image == pytest.approx((3 * 40 + 12 * 10) / 15)
    assert both.images_per_second == pytest.approx(15 / 6)


def test_only_searches_that_need_the_network_are_run() -> None:
    for one in searches.BENCHMARKS:
        run = {name.partition(" ")[0] for name in searches.runs(one, Path("results"))}
        replayed = {search for search, _ in searches._replays(one)}
        assert run == {"exhaustive", "paper", "racing", "gradient"}
        assert replayed == {"exhaustive", "racing", "halving"}
        assert all(o.get("draws", 0) <= one.draws for _, o in searches._replays(one))
        assert searches.DEFAULT_DRAWS == Racing().draws
        assert max(one.tabled, one.paper_images) <= one.images


def test_committed_page_is_that_of_the_committed_predictions(tmp_path: Path) -> None:
    folder = tmp_path / speed_answers.FOLDER
    folder.mkdir()
    for path in (REFERENCE / speed_answers.FOLDER).glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    assert searches.main(["--report-only", "--output-dir", str(tmp_path)]) == 0
    for name in ("SPEED.md", "speed.csv"):
        assert (tmp_path / name).read_bytes() == (REFERENCE / name).read_bytes()
