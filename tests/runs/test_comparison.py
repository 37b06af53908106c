"""Comparison of runs with chosen answers: what is compared, what is refused, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.stored_runs import HEADER, spec_of, write_run

from diffcls.runs.comparison import compare_runs
from diffcls.runs.records import Record, RecordStore
from diffcls.support.errors import RecordError, UsageError

# label and answer of six images, two of each class
FIRST = {"a": (0, 0), "b": (0, 1), "c": (1, 1), "d": (1, 1), "e": (2, 0), "f": (2, 2)}
SECOND = {"a": (0, 0), "b": (0, 0), "c": (1, 2), "d": (1, 2), "e": (2, 2), "f": (2, 2)}


def test_every_figure_of_a_table_counted_by_hand(tmp_path: Path) -> None:
    first = write_run(tmp_path, FIRST, evaluations=10)
    second = write_run(tmp_path, SECOND, evaluations=25, search="paper")
    result = compare_runs(first, second, output_dir=tmp_path)
    assert [run.n_correct for run in result.runs] == [4, 4]
    assert result.runs[1].differs_in == ["search"]
    (one,) = result.differences
    assert (one.n_gained, one.n_lost, one.n_same_answer) == (2, 2, 2)
    assert (one.difference, one.p_value, one.cost_ratio) == (0.0, 1.0, 2.5)
    assert one.ci_low == pytest.approx(-one.ci_high)
    gained = [(c.name, c.n, c.before, c.after) for c in one.classes_gained]
    assert gained == [("cat", 2, 1, 2), ("newt", 2, 1, 2)]
    assert [(c.name, c.change) for c in one.classes_lost] == [("dog", -2)]
    assert [image.image_id for image in result.images] == ["b", "c", "d", "e"]
    assert result.images[0].answers == [1, 0]
    assert result.groups == []


def test_failed_and_missing_images_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = write_run(tmp_path, {**FIRST, "b": (0, None)}, n_asked=8)
    second = write_run(tmp_path, {k: v for k, v in SECOND.items() if k != "f"}, seed=1)
    result = compare_runs(first, second, output_dir=tmp_path)
    assert (result.n_shared, result.n_images) == (4, 8)
    assert "ONLY 4 OF 8 IMAGES ARE SHARED" in caplog.text
    one, two = result.runs
    assert (one.n_scored, one.n_failed, one.n_asked, one.status) == (5, 1, 8, "partial")
    assert (two.n_scored, two.n_failed, two.n_asked, two.status) == (5, 0, 5, "complete")
    assert result.differences[0].n_lost == 2


def test_a_run_that_was_killed_before_its_first_row_is_compared(tmp_path: Path) -> None:
    first = write_run(tmp_path, FIRST)
    killed = write_run(tmp_path, SECOND, has_row=False, subset="9:0123456789abcdef")
    result = compare_runs(first, killed, output_dir=tmp_path)
    assert (result.n_shared, result.n_images) == (6, 9)
    assert (result.runs[1].n_asked, result.runs[1].status) == (9, "partial")
    unknown = write_run(tmp_path, SECOND, has_row=False, search="paper")
    assert compare_runs(first, unknown, output_dir=tmp_path).runs[1].n_asked is None


def test_same_answers_have_an_interval_that_is_not_a_point(tmp_path: Path) -> None:
    first, second = write_run(tmp_path, FIRST), write_run(tmp_path, FIRST, search="paper")
    (one,) = compare_runs(first, second, output_dir=tmp_path).differences
    assert (one.difference, one.p_value) == (0.0, 1.0)
    assert one.ci_low < -0.05 and one.ci_high > 0.05


def test_cost_ratio_against_a_method_without_evaluations_is_not_defined(tmp_path: Path) -> None:
    first = write_run(tmp_path, FIRST, evaluations=0, method="reference", search="")
    second = write_run(tmp_path, SECOND)
    assert compare_runs(first, second, output_dir=tmp_path).differences[0].cost_ratio is None
    assert compare_runs(second, first, output_dir=tmp_path).differences[0].cost_ratio is None


def test_probabilities_are_those_of_runs_with_a_posterior(tmp_path: Path) -> None:
    first = write_run(tmp_path, FIRST)
    second = write_run(tmp_path, SECOND, method="clip", header={"posterior_scale": None})
    (image, *_) = compare_runs(first, second, output_dir=tmp_path).images
    probability, without = image.probabilities
    # scores 0, −1, −2 by rank at scale 2; the label is second
    assert probability == pytest.approx((0.8668, 0.1173), abs=1e-4)
    assert without is None


def test_images_with_candidates_of_their_own_have_no_classes(tmp_path: Path) -> None:
    sentences = ("p", "q", "r", "s")
    four: dict[str, Any] = {"class_names": sentences, "prompts": sentences}
    one = _candidates(tmp_path, [0, 1], **four, class_of=(0, 1, 2, 3))
    two = _candidates(tmp_path, [1, 1], **four, class_of=(0, 1, 2, 3), search="paper")
    result = compare_runs(one, two, output_dir=tmp_path)
    assert result.n_classes == 2
    assert result.differences[0].classes_gained == []
    assert result.images[0].name_of(1) == "1"


def _candidates(out: Path, answers: list[int], **changes: Any) -> str:
    """A run whose images have two candidates each, of more sentences."""
    with RecordStore(out, spec_of(**changes)) as store:
        store.header(HEADER)
        for i, answer in enumerate(answers):
            scores = (0.0, -1.0) if answer == 0 else (-1.0, 0.0)
            ranking = (answer, 1 - answer)
            store.append(Record(store.fingerprint, f"{i}", 0, ranking, scores, 2, 0.1))
    return store.fingerprint


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another data set": ({"dataset": "food101"}, "different data sets"),
    "another split": ({"split": "validation"}, "different splits"),
    "another version of the data": ({"data_revision": "ffff"}, "different versions of the data"),
    "fewer classes": (
        {"class_names": ("cat", "dog", "newt", "owl"), "class_of": (0, 1, 2, 3)}
        | {"prompts": ("a", "b", "c", "d")},
        "different numbers of classes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_runs_that_cannot_be_compared_are_refused(case: str, tmp_path: Path) -> None:
    changes, message = REFUSED[case]
    first, second = write_run(tmp_path, FIRST), write_run(tmp_path, SECOND, **changes)
    with pytest.raises(UsageError, match=message) as error:
        compare_runs(first, second, output_dir=tmp_path)
    assert first in str(error.value) and second in str(error.value)


def test_other_labels_of_the_same_images_are_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path, FIRST)
    second = write_run(tmp_path, {**SECOND, "d": (2, 2)}, seed=1)
    with pytest.raises(UsageError, match=r"different labels .*d: 1 in .*, 2 in "):
        compare_runs(first, second, output_dir=tmp_path)


def test_runs_without_a_shared_image_are_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path, FIRST)
    second = write_run(tmp_path, {f"other/{k}": v for k, v in SECOND.items()}, seed=1)
    with pytest.raises(UsageError, match="no scored image in common"):
        compare_runs(first, second, output_dir=tmp_path)


def test_other_names_of_the_same_classes_are_compared_by_index_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = write_run(tmp_path, FIRST)
    second = write_run(tmp_path, SECOND, class_names=("cat", "hound", "newt"))
    assert compare_runs(first, second, output_dir=tmp_path).n_shared == 6
    assert "'dog' and 'hound' for class 1" in caplog.text


def test_a_record_of_another_run_is_damage(tmp_path: Path) -> None:
    first, second = write_run(tmp_path, FIRST), write_run(tmp_path, SECOND, seed=1)
    source, target = (tmp_path / "runs" / f / "records-0-of-1.jsonl" for f in (first, second))
    target.write_bytes(target.read_bytes() + source.read_bytes())
    with pytest.raises(RecordError, match="a record of another run"):
        compare_runs(first, second, output_dir=tmp_path)


def test_shards_of_a_run_are_read_together(tmp_path: Path) -> None:
    first, second = write_run(tmp_path, FIRST), write_run(tmp_path, SECOND, seed=1)
    path = tmp_path / "runs" / second / "records-0-of-1.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.with_name("records-0-of-2.jsonl").write_text("".join(lines[::2]))
    path.with_name("records-1-of-2.jsonl").write_text("".join(lines[1::2]))
    path.unlink()
    assert compare_runs(first, second, output_dir=tmp_path).n_shared == 6


def test_two_runs_must_result_and_against_must_be_one(tmp_path: Path) -> None:
    first, second = write_run(tmp_path, FIRST), write_run(tmp_path, SECOND, seed=1)
    with pytest.raises(UsageError, match="needs two runs"):
        compare_runs(first, first[:12], output_dir=tmp_path)
    with pytest.raises(UsageError, match="--against selects 2 runs"):
        compare_runs(first, second, against="method=diffusion", output_dir=tmp_path)
    with pytest.raises(UsageError, match="RUN is not a text"):
        compare_runs(first, "", output_dir=tmp_path)
    result = compare_runs(first, against=second, output_dir=tmp_path)
    assert [run.fingerprint for run in result.runs] == [second, first]


def test_seeds_of_one_setting_alone_are_summarised(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, a, seed=s) for s, a in enumerate((FIRST, SECOND, FIRST))]
    (group,) = compare_runs(*runs, output_dir=tmp_path).groups
    assert (group.seeds, group.accuracy) == (["0", "1", "2"], pytest.approx(4 / 6))
    assert group.difference is None


def test_groups_with_the_same_means_have_no_interval_and_p_1(tmp_path: Path) -> None:
    for search in ("racing", "paper"):
        for seed, answers in enumerate((FIRST, SECOND)):
            write_run(tmp_path, answers, seed=seed, search=search)
    baseline, group = compare_runs("dataset=pets", output_dir=tmp_path).groups
    assert baseline.accuracy == group.accuracy
    assert (group.difference, group.difference_low, group.p_value) == (0.0, None, 1.0)
