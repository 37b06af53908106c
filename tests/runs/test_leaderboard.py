"""The leaderboard: published figures, rows from records, and a file that survives accidents."""

from __future__ import annotations

import csv
import errno
import itertools
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.processes import measured, write_rows
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.reports.terminal import format_table
from diffcls.runs import leaderboard, summary
from diffcls.runs.row import cells_of
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.text import valid_text

DATASETS = [
    *("food101", "cifar10", "fgvc_aircraft", "pets"),
    *("flowers102", "stl10", "imagenet", "objectnet"),
]
LATER = "published, later version, unconfirmed"
PUBLISHED = leaderboard.published_rows()
HEADER = (
    "fingerprint,dataset,split,n_classes,method,model,revision,search,setting,supervision,source,"
    "n_asked,n_scored,accuracy,ci_low,ci_high,top5,mean_per_class,ece,evaluations_per_image,"
    "seconds_per_image,seed,status,device,dtype,versions,commit,command,date"
)


def files_of(folder: Path) -> list[str]:
    """Names of the files in a folder but for locks, which may stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def measured_rows(path: Path) -> list[dict[str, str]]:
    return [row for row in leaderboard.read(path) if row["source"] == "measured"]


# ---- published figures -------------------------------------------------------------------------


def test_columns_are_those_of_the_contract() -> None:
    assert ",".join(leaderboard.COLUMNS) == HEADER


def test_published_table_is_complete() -> None:
    rows = leaderboard.published_rows()
    assert Counter(row["source"] for row in rows) == {"published": 40, LATER: 6}
    table = [row for row in rows if row["source"] == "published"]
    methods = [("synthetic", 1), ("sd-features", 1), ("diffusion", 1), ("clip", 2)]
    expected = Counter(
        {(name, method): n for name, (method, n) in itertools.product(DATASETS, methods)}
    )
    assert Counter((row["dataset"], row["method"]) for row in table) == expected
    keys = [tuple(row[c] for c in ("source", "dataset", "method", "model")) for row in rows]
    assert len(set(keys)) == len(rows)


@pytest.mark.parametrize(
    ("dataset", "method", "model", "source", "accuracy"),
    [
        ("food101", "synthetic", "sd2-base", "published", 0.126),
        ("objectnet", "sd-features", "sd2-base", "published", 0.102),
        ("cifar10", "diffusion", "sd2-base", "published", 0.763),
        ("pets", "diffusion", "sd2-base", "published", 0.857),
        ("flowers102", "clip", "RN50/openai", "published", 0.659),
        ("cifar10", "clip", "ViT-H-14/laion2b_s32b_b79k", "published", 0.973),
        ("cifar10", "diffusion", "sd2-base", LATER, 0.885),
        ("objectnet", "diffusion", "sd2-base", LATER, 0.434),
    ],
)
def test_published_figures(
    dataset: str, method: str, model: str, source: str, accuracy: float
) -> None:
    about = {"dataset": dataset, "method": method, "model": model, "source": source}
    figures = [
        row["accuracy"]
        for row in leaderboard.published_rows()
        if all(row[name] == value for name, value in about.items())
    ]
    assert figures == [accuracy]


def test_published_rows_sum_to_those_of_the_published_table() -> None:
    # the row sums of the table, worked out by hand from its percentages
    rows = leaderboard.published_rows()
    sums = {
        ("synthetic", "sd2-base"): 172.8,
        ("sd-features", "sd2-base"): 492.1,
        ("diffusion", "sd2-base"): 511.9,
        ("clip", "RN50/openai"): 519.8,
        ("clip", "ViT-H-14/laion2b_s32b_b79k"): 651.1,
    }
    for key, expected in sums.items():
        figures = [
            row["accuracy"]
            for row in rows
            if (row["method"], row["model"]) == key and row["source"] == "published"
        ]
        assert 100 * sum(figures) == pytest.approx(expected)


def test_published_rows_state_their_source() -> None:
    classes = dict(zip(DATASETS, (101, 10, 100, 37, 102, 10, 1000, 113), strict=True))
    for row in leaderboard.published_rows():
        assert set(row) == set(leaderboard.COLUMNS)
        assert 0 < row["accuracy"] < 1
        assert row["n_classes"] == classes[row["dataset"]]
        labels = row["method"] == "sd-features"
        assert row["supervision"] == ("labels" if labels else "zero-shot")
        few = (row["dataset"], row["method"], row["source"]) == (
            "imagenet",
            "diffusion",
            "published",
        )
        assert (row["n_asked"], row["n_scored"]) == ((4000, 4000) if few else (None, None))
        assert row["fingerprint"] is None


# ---- rows from records -------------------------------------------------------------------------


def record(label: int, ranking: list[int], **fields: Any) -> dict[str, Any]:
    return {
        "label": label,
        "ranking": ranking,
        "scores": [-float(ranking.index(k)) for k in sorted(ranking)],  # minus the place
        "evaluations": 40,
        "seconds": 0.5,
        "error": None,
        **fields,
    }


FAILED = {
    "label": 1,
    "ranking": None,
    "scores": None,
    "evaluations": None,
    "seconds": None,
    "error": "cannot identify image file",
}


def six(label: int, first: int) -> list[int]:
    return [first, *(k for k in range(6) if k != first)]


def test_summary_of_a_case_worked_by_hand() -> None:
    records = [
        record(0, six(0, 0), evaluations=20, seconds=0.25),
        record(0, six(0, 0), evaluations=40, seconds=0.75),
        record(1, six(1, 1), evaluations=60),
        record(5, six(5, 2), evaluations=80),  # label last of 6: not among the first 5
        FAILED,
    ]
    about = {"fingerprint": "f", "dataset": "toy", "n_classes": 6, "seed": 0}
    row = summary.summarise(records, about, n_asked=5, posterior_scale=1e9)
    assert tuple(row) == leaderboard.COLUMNS
    assert about.items() <= row.items()
    assert row["source"] == "measured"
    assert row["status"] == "complete"
    assert (row["n_asked"], row["n_scored"]) == (5, 4)
    assert row["accuracy"] == row["top5"] == 0.75
    assert row["mean_per_class"] == pytest.approx(2 / 3)
    # Wilson: (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n) at p = 3/4, n = 4, z = 1.96
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.300642, 0.954413), abs=1e-5)
    assert row["evaluations_per_image"] == 50.0
    assert row["seconds_per_image"] == 0.5
    assert row["ece"] == pytest.approx(0.25)  # certain of all four, right in three


def test_top5_is_empty_up_to_five_classes_and_ece_without_a_scale() -> None:
    row = summary.summarise(
        [record(0, [0, 1, 2, 3, 4])], {"n_classes": 5}, n_asked=1, posterior_scale=None
    )
    assert row["top5"] is None
    assert row["ece"] is None
    assert row["accuracy"] == 1.0


def test_records_may_be_objects_and_a_class_never_scored_has_no_share() -> None:
    scored = record(0, [0, 1, 2], scores=[0.0, 0.0, None])
    row = summary.summarise(
        [SimpleNamespace(**scored)], {"n_classes": 3}, n_asked=1, posterior_scale=1.0
    )
    assert row["ece"] == pytest.approx(0.5)  # two classes of probability 1/2, the answer right


@pytest.mark.parametrize(
    ("records", "n_scored"), [([record(0, [0, 1])], 1), ([], 0), ([FAILED], 0)]
)
def test_a_run_is_partial_until_every_image_has_a_record(records: Any, n_scored: int) -> None:
    row = summary.summarise(records, {"n_classes": 2}, n_asked=2, posterior_scale=1.0)
    assert row["status"] == "partial"
    assert row["n_scored"] == n_scored


def test_a_run_of_failures_only_has_no_figures() -> None:
    row = summary.summarise([FAILED], {"n_classes": 2}, n_asked=1, posterior_scale=1.0)
    assert row["status"] == "partial"
    figures = ("accuracy", "ci_low", "ci_high", "mean_per_class", "ece", "seconds_per_image")
    assert [row[name] for name in figures] == [None] * 6


@pytest.mark.parametrize(
    "bad",
    [
        record(2, [0, 1]),
        record(0, [0, 0]),
        record(0, [0]),
        record(0, [0, 2], scores=[0.0, 0.0]),
        record(0, [0, 1], scores=[0.0]),
    ],
)
def test_a_record_of_other_classes_is_refused(bad: Any) -> None:
    with pytest.raises(RecordError, match="does not fit"):
        summary.summarise([bad], {"n_classes": 2}, n_asked=1, posterior_scale=None)


def test_more_records_than_images_are_refused() -> None:
    with pytest.raises(RecordError, match="more records"):
        summary.summarise([FAILED] * 3, {"n_classes": 2}, n_asked=2, posterior_scale=None)


@pytest.mark.parametrize(
    "metadata", [{}, {"n_classes": 0}, {"n_classes": 2, "acuracy": 1}, {"n_classes": 2, "ece": 0}]
)
def test_metadata_cannot_replace_a_computed_column(metadata: Any) -> None:
    with pytest.raises(UsageError):
        summary.summarise([], metadata, n_asked=1, posterior_scale=None)


# ---- the file ----------------------------------------------------------------------------------


def old_leaderboard(path: Path) -> list[dict[str, str]]:
    """A file as diffcls 0.1 wrote it, published rows first; returns its published rows."""
    rows = [{name: cells_of(row)[name] for name in HEADER.split(",")} for row in PUBLISHED]
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, HEADER.split(","), restval="")
        table.writeheader()
        table.writerows([*rows, measured("a"), measured("b")])
    return rows


def test_a_new_file_holds_the_header_and_the_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "results" / "leaderboard.csv"
    leaderboard.upsert(path, [measured("a", accuracy=0.984)])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == HEADER
    assert len(lines) == 1 + 1
    assert [row["source"] for row in leaderboard.read(path)] == ["measured"]


def test_published_rows_of_an_old_file_are_kept_after_measured_ones(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    published = old_leaderboard(path)
    leaderboard.upsert(path, [measured("c"), measured("a", accuracy=0.5)])
    rows = leaderboard.read(path)
    assert [row["fingerprint"] for row in rows[:3]] == ["a", "b", "c"]
    assert rows[0]["accuracy"] == "0.5"
    assert rows[3:] == published


def test_a_row_replaces_its_own_fingerprint_and_leaves_all_others_in_order(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    leaderboard.upsert(path, [measured(f) for f in "abc"])
    before = leaderboard.read(path)
    leaderboard.upsert(path, [measured("b", accuracy=0.5), measured("d")])
    after = leaderboard.read(path)
    assert [row["fingerprint"] for row in after if row["source"] == "measured"] == list("abcd")
    changed = [(old, new) for old, new in zip(before, after, strict=False) if old != new]
    assert [(old["accuracy"], new["accuracy"]) for old, new in changed] == [("", "0.5")]


def test_foreign_rows_are_kept_cell_by_cell(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    foreign = [
        {"fingerprint": "x", "source": "measured", "model": 'a "quoted", name', "accuracy": ".50"},
        {"source": "published", "dataset": "digits", "method": "diffusion", "model": "mine"},
        {"source": "measured", "command": "two\nlines", "dataset": "Blütenblätter"},
        {"source": "measured", "command": "without a fingerprint too"},
    ]
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, HEADER.split(","), restval="")
        table.writeheader()
        table.writerows(foreign)
    before = leaderboard.read(path)
    leaderboard.upsert(path, [measured("a")])
    after = leaderboard.read(path)
    own = [row for row in before if row["source"] == "measured"]
    assert after[: len(own)] == own and after[len(own)]["fingerprint"] == "a"
    assert after[len(own) + 1 :] == [row for row in before if row not in own]


def test_upsert_twice_is_upsert_once(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    leaderboard.upsert(path, [measured("a", accuracy=1 / 3)])
    once = path.read_bytes()
    leaderboard.upsert(path, [measured("a", accuracy=1 / 3)])
    assert path.read_bytes() == once


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (float("nan"), ""),
        (np.float32("nan"), ""),
        (2 / 3, "0.666667"),
        (np.float32(0.5), "0.5"),
        (np.float64(1.0), "1.0"),
        (np.int64(500), "500"),
        (7, "7"),
        (-0.25, "-0.25"),
        ("-0.25", "-0.25"),
        ("+3", "+3"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+SUM(A1)", "'+SUM(A1)"),
        ("-A1", "'-A1"),
        ("@name", "'@name"),
        ("\t=1+1", "'\t=1+1"),
        ("a=b", "a=b"),
        ("<script>", "<script>"),
    ],
)
def test_cells(tmp_path: Path, value: object, cell: str) -> None:
    path = tmp_path / "leaderboard.csv"
    leaderboard.upsert(path, [measured("a", model=value)])
    assert measured_rows(path)[0]["model"] == cell


@pytest.mark.parametrize(
    "row",
    [
        measured("a", acuracy=1.0),
        measured("a", accuracy=float("inf")),
        measured(""),
        {"fingerprint": "a"},
        {"fingerprint": "a", "source": "published"},
    ],
)
def test_rows_that_are_not_measured_are_refused(tmp_path: Path, row: Any) -> None:
    with pytest.raises(UsageError):
        leaderboard.upsert(tmp_path / "leaderboard.csv", [row])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace(",ece", ""), "lacks ece"),
        (HEADER + ",f1", "has 'f1' as well"),
        (HEADER.replace("dataset,split", "split,dataset"), "another order"),
        ("dataset;accuracy", "lacks fingerprint"),
    ],
)
def test_a_file_with_other_columns_is_refused_and_kept(
    tmp_path: Path, header: str, message: str
) -> None:
    path = tmp_path / "leaderboard.csv"
    path.write_text(header + "\nmine\n", encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        leaderboard.upsert(path, [measured("a")])
    assert path.read_text(encoding="utf-8") == header + "\nmine\n"


@pytest.mark.parametrize("content", [HEADER.encode() + b"\na,b\n", b"\xff\xfe\x00", b'"torn'])
def test_a_file_that_is_broken_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "leaderboard.csv"
    path.write_bytes(content)
    with pytest.raises(RecordError):
        leaderboard.upsert(path, [measured("a")])
    assert path.read_bytes() == content


def test_a_file_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    leaderboard.upsert(path, [measured("a")])
    rows = leaderboard.read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert leaderboard.read(path) == rows


def test_reading_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be read"):
        leaderboard.read(tmp_path / "leaderboard.csv")


def test_an_empty_file_holds_nothing_that_could_be_lost(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    path.touch()
    leaderboard.upsert(path, [measured("a")])
    assert len(measured_rows(path)) == 1


@examples(
    cell=st.text(st.characters() | st.sampled_from("\r\n\"',\0\u2028\udcff=+-@")),
    foreign=st.text(st.characters(codec="utf-8") | st.sampled_from("\r\n\"',\0=")),
)
def test_no_cell_ruins_the_file(tmp_path: Path, cell: str, foreign: str) -> None:
    path = tmp_path / "leaderboard.csv"
    path.unlink(missing_ok=True)
    leaderboard.upsert(path, [measured("a", command=cell, model=cell)])
    leaderboard.upsert(path, [measured("b", command=foreign)])
    rows = leaderboard.read(path)
    assert [row["fingerprint"] for row in rows] == ["a", "b"]
    for row, text in zip(rows, (cell, foreign), strict=True):
        assert row["command"].removeprefix("'") == valid_text(text).removeprefix("'")
    leaderboard.upsert(path, [measured("b", command=foreign)])
    assert leaderboard.read(path) == rows


@examples(
    content=st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.text().map(lambda text: f"{HEADER}\n{text}".encode("utf-8", "surrogatepass"))
    | st.lists(
        st.text(st.sampled_from('a",\r\n')), min_size=len(HEADER.split(",")), max_size=30
    ).map(lambda cells: f"{HEADER}\n{','.join(cells)}\n".encode())
)
def test_any_content_is_a_whole_table_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "leaderboard.csv"
    path.write_bytes(content)
    try:
        rows = leaderboard.read(path)
    except RecordError as refused:
        assert str(path) in str(refused)
        with pytest.raises(RecordError):
            leaderboard.upsert(path, [measured("a")])
        assert path.read_bytes() == content
        return
    assert all(tuple(row) == leaderboard.COLUMNS for row in rows)
    leaderboard.upsert(path, [measured("new")])
    kept = leaderboard.read(path)
    assert [row for row in kept if row["fingerprint"] != "new"] == [
        *(row for row in rows if not row["source"].startswith("published")),
        *(row for row in rows if row["source"].startswith("published")),
    ]


def test_a_very_long_command_is_cut_in_the_table(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    leaderboard.upsert(path, [measured("a", command="x" * 200_000)])
    leaderboard.upsert(path, [measured("b")])
    assert len(leaderboard.read(path)[0]["command"]) == 32_767


# ---- accidents ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize(
    ("accident", "seen"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), RecordError),
        (OSError(errno.EROFS, "Read-only file system"), UsageError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    accident: BaseException,
    seen: type[BaseException],
) -> None:
    path = tmp_path / "leaderboard.csv"
    leaderboard.upsert(path, [measured("a")])
    before, names = path.read_bytes(), files_of(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise accident

    with monkeypatch.context() as patched:
        patched.setattr(os, name, fail)
        with pytest.raises(seen):
            leaderboard.upsert(path, [measured("b")])
    assert path.read_bytes() == before
    assert files_of(tmp_path) == names
    leaderboard.upsert(path, [measured("b")])  # and the lock is free again
    assert [row["fingerprint"] for row in measured_rows(path)] == ["a", "b"]


def test_a_first_write_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RecordError, match="No space left"):
        leaderboard.upsert(tmp_path / "leaderboard.csv", [measured("a")])
    assert not files_of(tmp_path)


def test_temporary_file_of_a_killed_writer_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    (tmp_path / ".leaderboard.csv.tmp").write_text("torn", encoding="utf-8")
    leaderboard.upsert(path, [measured("a")])
    assert files_of(tmp_path) == ["leaderboard.csv"]


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        leaderboard.upsert(tmp_path / "file" / "leaderboard.csv", [measured("a")])
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "leaderboard.csv"
    leaderboard.upsert(real, [measured("a")])
    real.chmod(0o640)
    link.symlink_to(real)
    leaderboard.upsert(link, [measured("b")])
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert [row["fingerprint"] for row in measured_rows(real)] == ["a", "b"]


def test_rows_of_writers_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    workers = [context.Process(target=write_rows, args=(path, w, barrier)) for w in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    rows = [row["fingerprint"] for row in measured_rows(path)]
    assert sorted(rows) == sorted(f"{w}-{i}" for w in range(4) for i in range(8))


# ---- the table ---------------------------------------------------------------------------------


def test_table_shows_percentages_with_intervals_in_columns() -> None:
    row = measured(
        "a",
        search="racing",
        accuracy=0.984,
        ci_low=0.9688,
        ci_high=0.9918,
        mean_per_class=0.9835,
        evaluations_per_image=1234.56,
        seconds_per_image=0.0421,
        n_asked=500,
        n_scored=498,
        status="complete",
        supervision="model trained on this data set",
    )
    other = {**row, "search": "exhaustive", "n_scored": 500, "evaluations_per_image": 1000.0}
    lines = format_table([row, other]).splitlines()
    assert len(lines) == 4
    for cell in ("98.4 % [96.9, 99.2]", "diffusion/racing", "1,234.6", "0.042", "498 of 500"):
        assert cell in lines[2]
    assert lines[0].index("accuracy") == lines[2].index("98.4 %") == lines[3].index("98.4 %")
    for name in ("mean per class", "evaluations/image", "images"):
        end = lines[0].index(name) + len(name)
        assert [line[end - 1] != " " and line[end] == " " for line in lines] == [True] * 4
    assert "model " not in lines[0].replace("model trained", "")
    assert "source" not in lines[0]


def test_table_shows_models_and_sources_if_they_differ() -> None:
    lines = format_table(
        [*leaderboard.published_rows(), measured("a", model="tiny", accuracy=0.5, status="partial")]
    ).splitlines()
    assert {"model", "source"} <= set(lines[0].split())
    assert any("ViT-H-14" in line and line.endswith("published") for line in lines)
    assert lines[-1].endswith("measured")
    assert "partial" in lines[-1]


def test_table_is_the_same_from_the_file_as_from_the_run(tmp_path: Path) -> None:
    records = [record(0, six(0, 0)), record(1, six(1, 3)), FAILED]
    row = summary.summarise(
        records,
        {"fingerprint": "a", "n_classes": 6, "dataset": "toy", "method": "diffusion"},
        n_asked=3,
        posterior_scale=1.0,
    )
    path = tmp_path / "leaderboard.csv"
    leaderboard.upsert(path, [row])
    assert format_table(measured_rows(path)) == format_table([row])


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    text = format_table([measured("a", supervision="\x1b[31mred\r\n")])
    assert "\x1b" not in text
    assert "\r" not in text
    assert len(text.splitlines()) == 3


def test_import_needs_neither_torch_nor_scipy_nor_pandas() -> None:
    code = (
        "import sys, diffcls.runs.leaderboard as l; l.published_rows();"
        "sys.exit(bool({'torch', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
