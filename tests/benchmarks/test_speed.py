"""The benchmarks of speed: what they count, what they compare, and what they write."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.ablations import variance
from benchmarks.speed import answers as speed_answers
from benchmarks.speed import classes as growth
from benchmarks.speed import cpu_inference, gpu, report, searches, throughput
from benchmarks.speed.report import Point
from diffcls.metrics.statistics import mcnemar_exact
from diffcls.search.gradient import Gradient
from diffcls.search.racing import Racing
from diffcls.support.errors import RecordError

LABELS = {f"test/{i}": i % 3 for i in range(12)}


def point(search: str, wrong: set[int], count: int = 12, **more: Any) -> Point:
    """A search that takes the next class on the images that it gets wrong."""
    predicted = {f"test/{i}": (i + (i in wrong)) % 3 for i in range(count)}
    options = {"setting": "default", "evaluations_per_image": 10.0, **more}
    return Point("digits", search, predicted=predicted, labels=LABELS, **options)


def test_a_search_is_compared_with_the_published_one_on_the_images_of_both() -> None:
    paper = point("paper", {0, 1}, count=6, evaluations_per_image=2750.0)
    racing = point("racing", {1, 7}, images_per_second=5.0)
    row = racing.row(paper)
    assert tuple(row) == report.COLUMNS
    assert row["n"] == 12 and row["accuracy"] == pytest.approx(10 / 12, abs=1e-6)
    # of the six that both scored, one is right in racing alone
    assert racing.lost_to(paper) == pytest.approx(-1 / 6)
    assert racing.disagreement(paper) == pytest.approx(1 / 6)
    right = [i != 1 for i in range(6)], [i not in (0, 1) for i in range(6)]
    assert row["mcnemar_p_vs_paper"] == pytest.approx(mcnemar_exact(*right))


def test_columns_of_the_table_are_those_of_the_contract() -> None:
    assert ",".join(report.COLUMNS) == (
        "benchmark,search,setting,n,accuracy,ci_low,ci_high,evaluations_per_image,"
        "images_per_second,mcnemar_p_vs_paper"
    )


def test_report_has_a_row_for_every_point_and_a_plot(tmp_path: Path) -> None:
    points = [
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
    report.write(points, tmp_path)
    with open(tmp_path / "speed.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["search"] for row in rows] == [p.search for p in points]
    # a search that was replayed has no speed of its own
    assert [row["images_per_second"] for row in rows] == ["0.5", "0.1", "5.0", "", "", "", "9.0"]
    page = (tmp_path / "SPEED.md").read_text(encoding="utf-8")
    assert "| digits | racing | 12 | 83.3% |" in page and "275×" in page
    # racing is wrong on two of twelve images, the full table on none
    assert "| -16.7% (6) | 1.000 | +16.7% (12) | 0.500 | 5.00 |" in page
    assert "| digits | racing | default | 10.0 | -16.7% (6) | 1.000 |" in page
    # a third of the labels are class 0, the only one that this screen leaves
    assert "| digits | gradient | default | 33.3% | 33.3% | 8.3% |" in page
    assert "| confidence=0.9, N = 40 | 8.3% at 20 evaluations |" in page
    assert "| confidence=0.9, N = all draws | 16.7% at 30 evaluations |" in page
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_answers_of_a_benchmark_outlive_its_runs(tmp_path: Path) -> None:
    ranked = {f"test/{i}": (i % 3, 2) for i in range(12)}
    points = (
        point("paper", {0, 1}, count=6, evaluations_per_image=2750.0, images_per_second=0.1),
        point("racing", {1, 7}, setting="confidence=0.9 draws=40", clear=0.25),
        point("gradient", {3}, images_per_second=9.0, screened=ranked),
    )
    assert speed_answers.read("digits", tmp_path) is None
    speed_answers.keep(speed_answers.Answers("cpu, two threads", points), tmp_path)
    found = speed_answers.read("digits", tmp_path)
    assert found is not None and found.where == "cpu, two threads"
    for mine, kept in zip(points, found.points, strict=True):
        assert kept.row(found.points[0]) == mine.row(points[0])
        assert kept.predicted == mine.predicted and kept.clear == mine.clear
        assert {i: tuple(s) for i, s in kept.screened.items()} == mine.screened
    (file,) = (tmp_path / speed_answers.FOLDER).glob("*.json")
    file.write_text(file.read_text(encoding="utf-8").replace("[1,2]", "1]"), encoding="utf-8")
    with pytest.raises(RecordError, match="not a file of answers"):
        speed_answers.read("digits", tmp_path)


def test_benchmarks_that_are_left_out_stay_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = point("paper", {0, 1}, evaluations_per_image=2750.0, images_per_second=0.1)
    full = point("exhaustive", set(), setting="draws=200", images_per_second=0.5)
    monkeypatch.setattr(searches, "_make_all", lambda *_: None)

    def measure(one: searches.Measured, *_: Any) -> speed_answers.Answers:
        points = tuple(replace(p, benchmark=one.dataset) for p in (full, paper))
        return speed_answers.Answers("cpu", points)

    monkeypatch.setattr(searches, "measure", measure)
    for name in ("cifar10", "digits"):
        assert searches.main(["--only", name, "--output-dir", str(tmp_path)]) == 0
    with open(tmp_path / "speed.csv", encoding="utf-8") as file:
        rows = [row["benchmark"] for row in csv.DictReader(file)]
    assert rows == ["digits", "digits", "cifar10", "cifar10"]
    # nothing is lost where its answers are: its rows stay, and are no part of what is compared
    before = (tmp_path / "speed.csv").read_bytes()
    (tmp_path / speed_answers.FOLDER / "cifar10.json").unlink()
    assert searches.main(["--only", "digits", "--output-dir", str(tmp_path)]) == 0
    assert (tmp_path / "speed.csv").read_bytes() == before
    page = (tmp_path / "SPEED.md").read_text(encoding="utf-8")
    compared, earlier = page.split("## Measured earlier")
    assert "cifar10" not in compared and "| digits |" not in earlier
    assert "| cifar10 | paper | default | 12 | 83.3% |" in earlier


def test_the_full_table_knows_better_where_it_is_sure_of_it() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 40))
    far, near = noise.copy(), noise.copy()
    # two draws share a sign of the difference by chance: the error of the mean gap is √(2/40)
    far[1] += far[0].mean() - far[1].mean() + 3 * np.sqrt(2 / 40)
    near[1] += near[0].mean() - near[1].mean() + 1 * np.sqrt(2 / 40)
    found = searches.clear_errors([far, far, near, near], np.array([1, 0, 1, 0]), 40)
    assert found.tolist() == [True, False, False, False]


def test_images_of_several_benchmarks_are_pooled_not_their_means() -> None:
    few = point("racing", {0}, count=3, evaluations_per_image=40.0, images_per_second=1.0)
    many = point("racing", {0}, count=12, evaluations_per_image=10.0, images_per_second=4.0)
    both = report.pooled([few, replace(many, benchmark="fashion_mnist")], "both")
    assert len(both.predicted) == 15 and both.accuracy == pytest.approx(13 / 15)
    assert both.evaluations_per_image == pytest.approx((3 * 40 + 12 * 10) / 15)
    assert both.images_per_second == pytest.approx(15 / 6)


def test_everything_but_what_needs_the_network_is_replayed() -> None:
    for one in searches.BENCHMARKS:
        run = {name.partition(" ")[0] for name in searches.runs(one, Path("results"))}
        replayed = {search for search, _ in searches._replays(one)}
        assert run == {"exhaustive", "paper", "racing", "tree", "gradient"}
        assert replayed == {"exhaustive", "racing", "halving"}
        assert all(o.get("draws", 0) <= one.draws for _, o in searches._replays(one))
        assert searches.DEFAULT_DRAWS == Racing().draws
        assert max(one.tabled, one.paper_images) <= one.images


def test_forwards_are_counted_with_their_padding() -> None:
    plan = throughput.plan_of(
        dataset="digits", limit=3, search="exhaustive", draws=3, batch_size=32
    )
    with throughput.metered(plan.built.method.denoiser) as meter:
        answers = list(plan.built.method.classify(plan.dataset.items))
    assert sum(answer.evaluations for answer in answers) == 90
    assert meter.rows == 96 and meter.shapes == {32} and meter.last > meter.first > 0
    assert "predict" not in vars(plan.built.method.denoiser)


def test_growth_is_measured_in_a_process_of_its_own_kind() -> None:
    row = growth.measure("classes", classes=12, search="gradient", images=2, batch=8)
    beside = {"recall", "lost_to_racing", "mcnemar_p_vs_racing"}
    assert set(row) == set(growth.COLUMNS) - beside | {"predicted", "raced", "labels"}
    assert row["images"] == 2 and 0 <= row["ci_low"] <= row["accuracy"] <= row["ci_high"] <= 1
    # two draws at three evaluations bring 12 classes to 6, which race for two draws at least
    assert row["evaluations_per_image"] >= 2 * 3 + 2 * 6
    assert {len(raced) for raced in row["raced"].values()} == {Gradient().candidates}


def grown(search: str, predicted: str, raced: list[Any], classes: int, **more: Any) -> Any:
    row = dict.fromkeys(growth.COLUMNS) | {"what": "classes", "classes": classes, "search": search}
    numbers = {"images": 4, "batch": 64, "accuracy": 0.5, "ci_low": 0.1, "ci_high": 0.9}
    speeds = {"images_per_second": 1.0, "evaluations_per_second": 50.0, "setup_seconds": 0.1}
    answers = {"predicted": dict(zip("abcd", map(int, predicted), strict=True))}
    answers |= {
        "raced": dict(zip("abcd", raced, strict=True)),
        "labels": {"a": 0, "b": 1, "c": 2, "d": 3},
    }
    return row | numbers | speeds | answers | more


def test_what_grows_is_compared_with_racing_image_by_image(tmp_path: Path) -> None:
    race = ("racing", "0127", [None] * 4)
    screen = ("gradient", "0553", [[0, 5], [5, 1], [5, 4], [3, 9]])
    rows = growth.beside_racing(
        [
            grown(*race, 100, evaluations_per_image=200.0, memory_mib=50.0),
            grown(*race, 1000, evaluations_per_image=2000.0, memory_mib=60.0),
            grown(*screen, 1000, evaluations_per_image=75.0, memory_mib=75.0),
            grown(*screen, 100, evaluations_per_image=50.0, memory_mib=50.0),
        ]
    )
    # racing is right on a, b, c; gradient on a and d; racing's answer survives its screen on a, b
    assert rows[2]["recall"] == 0.5 and rows[2]["lost_to_racing"] == 0.25
    assert rows[2]["mcnemar_p_vs_racing"] == pytest.approx(
        mcnemar_exact([1, 0, 0, 1], [1, 1, 1, 0])
    )
    assert rows[1]["lost_to_racing"] == 0 and rows[1]["recall"] == 1
    growth.write(rows, tmp_path)
    page = (tmp_path / "GROWTH.md").read_text(encoding="utf-8")
    assert "| 50.0% | +25.0% | 1.000 |" in page
    says = "1,000 classes take 1.50 times the memory of 100 and 1.5 times the evaluations of 100."
    assert f"- `gradient`: {says}" in page
    with open(tmp_path / "growth.csv", encoding="utf-8") as file:
        assert tuple(next(csv.reader(file))) == growth.COLUMNS


def test_what_is_measured_of_a_forward_computes_the_same() -> None:
    found = cpu_inference.variants("digits", compiled=False)
    outs = []
    for variant in found:
        with variant.around():
            outs.append(variant.call().detach().clone())
    assert len({variant.name for variant in found}) == len(found) >= 6
    for variant, out in zip(found, outs, strict=True):
        assert torch.allclose(out, outs[0], atol=2e-4), variant.name


def test_accelerator_script_measures_every_step_on_a_cpu_too() -> None:
    kept = dict(gpu.MEASURES)
    try:
        for name in [name for name in gpu.MEASURES if name.startswith("compiled")]:
            del gpu.MEASURES[name]  # half a minute each
        rows = gpu.measure("cpu", (2, 4), seconds=0.01, tiny=True)
    finally:
        gpu.MEASURES.update(kept)
    measures = [row["measure"] for row in rows]
    assert measures[0] == "baseline" and measures[-1] == "kept, larger batch"
    assert all(row["evaluations_per_second"] > 0 for row in rows)
    # a share is told only of a device whose peak is known
    assert all(row["share_of_peak"] is None for row in rows)
    differences = {row["measure"]: row["largest_difference"] for row in rows[:-1]}
    assert differences["baseline"] == 0 and differences["channels last"] < 0.1
    assert 0 < differences["bfloat16"] < 0.5


def test_a_slope_on_the_leader_takes_out_what_all_classes_share() -> None:
    rng = np.random.default_rng(3)
    gaps = np.array([0.0, 0.3, 0.6, 0.9])
    common = rng.normal(0, 5, (200, 1, 30))
    # each class follows the common noise with a slope of its own: plain means are at its mercy
    errors = gaps[:, None] + common * np.array([1.0, 0.8, 1.2, 0.9])[:, None]
    errors += rng.normal(0, 0.01, errors.shape)
    right = {way: (of(errors, 6) == 0).mean() for way, of in variance.WAYS.items()}
    assert right["slope on the leader"] > (variance.plain(errors, 6) == 0).mean() + 0.1


def test_ranks_and_trimming_are_those_of_scipy() -> None:
    errors = np.random.default_rng(1).normal(size=(20, 5, 10))
    ranks = stats.rankdata(errors, axis=1).mean(axis=2)
    assert (variance.by_rank(errors, 10) == ranks.argmin(axis=1)).all()
    centred = errors - errors.mean(axis=1, keepdims=True)
    kept = np.sort(centred, axis=2)[:, :, 1:-1].mean(axis=2)  # a tenth of ten at either end
    assert (variance.trimmed(errors, 10) == kept.argmin(axis=1)).all()


def test_a_way_is_kept_where_it_is_better_on_three_benchmarks_and_not_by_chance() -> None:
    flips = {"a": (9, 2), "b": (8, 2), "c": (8, 2), "d": (1, 3)}
    found = [
        variance.Found(way, name, draws, *(flip if way != "bad" else flip[::-1]), images=100)
        for way in ("good", "bad")
        for draws in variance.DRAWS
        for name, flip in flips.items()
    ]
    found += [
        variance.Found("lucky", name, draws, 2, 1, images=100)
        for draws in variance.DRAWS
        for name in flips
    ]
    text = "\n".join(variance.page(found))
    # 26 against 9, and 8 against 4
    assert variance.together(found[:4]) == pytest.approx(stats.binomtest(26, 35).pvalue)
    assert "- good: better on 3 of 4, p up to 0.006: worth keeping." in text
    assert "- bad: better on 1 of 4, p up to 0.006: not kept." in text
    assert "- lucky: better on 4 of 4, p up to 0.388: not kept." in text
    assert "| good | 12 | +7.0 (100) |" in text


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA GeForce RTX 4090", 165.0),
        ("NVIDIA L40", 181.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA GB200", None),
    ],
)
def test_the_peak_is_that_of_the_device_and_of_no_other(device: str, peak: float | None) -> None:
    assert gpu.peak_of(device) == peak
