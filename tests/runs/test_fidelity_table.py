"""Fidelity table ``fidelity.csv``: columns, keys of a measurement, and foreign files."""

from __future__ import annotations

import csv
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.runs.fidelity_table import COLUMNS, check, put, read
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.text import valid_text


def row(**changes: Any) -> dict[str, Any]:
    cells = {
        "model": "digits",
        "dataset": "digits",
        "split": "test",
        "metric": "FID",
        "extractor": "clip-digits-128",
        "n": 500,
        "value": 12.5,
        "guidance": 2.0,
        "steps": 25,
        "training_images": 480_000,
    }
    return {**cells, **changes}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "results" / "fidelity.csv"


# ---- columns and cells -------------------------------------------------------------------------


def test_columns_are_those_of_the_contract(table: Path) -> None:
    put(table, [row()])
    assert table.read_text(encoding="utf-8").splitlines() == [
        "model,dataset,split,metric,extractor,n,value,stderr,guidance,steps,training_images,"
        "accuracy",
        "digits,digits,test,FID,clip-digits-128,500,12.5,,2,25,480000,",
    ]
    assert [name for name in COLUMNS if name not in row()] == ["stderr", "accuracy"]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (math.nan, ""),
        (np.float64("nan"), ""),
        (0.1 + 0.2, "0.3"),
        (np.float64(1 / 3), "0.333333"),
        (-4.25e-9, "-4.25e-09"),
        (0, "0"),
        ("0.5", "0.5"),
    ],
    ids=str,
)
def test_nothing_and_nan_are_empty_cells_and_numbers_have_six_digits(
    table: Path, value: Any, cell: str
) -> None:
    put(table, [row(stderr=value)])
    (only,) = read(table)
    assert only["stderr"] == cell


def test_names_with_commas_and_letters_of_all_kinds_come_back(table: Path) -> None:
    put(table, [row(model='mine, "the second"', dataset="folder:Größe")])
    (only,) = read(table)
    assert (only["model"], only["dataset"]) == ('mine, "the second"', "folder:Größe")


@examples(cell=st.text(st.characters() | st.sampled_from("\r\n\"',\0\u2028\udcff=+-@")))
def test_no_cell_ruins_the_file(table: Path, cell: str) -> None:
    table.unlink(missing_ok=True)
    put(table, [row(model=cell)])
    put(table, [row(model=cell), row()])
    (first, *rest) = read(table)
    assert first["model"].removeprefix("'") == valid_text(cell).removeprefix("'")
    assert len(rest) == (cell != "digits")


# ---- one row per measurement -------------------------------------------------------------------


def test_later_row_takes_the_place_of_the_earlier(table: Path) -> None:
    put(table, [row(), row(metric="KID", value=0.5, stderr=0.1)])
    put(table, [row(value=9.0, stderr=0.25)])
    rows = read(table)
    assert [(r["metric"], r["value"], r["stderr"]) for r in rows] == [
        ("FID", "9", "0.25"),
        ("KID", "0.5", "0.1"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "another"),
        ("dataset", "cifar10"),
        ("split", "train"),
        ("metric", "KID"),
        ("extractor", "inception-v3-compat-2048"),
        ("n", 501),
        ("guidance", 2.5),
        ("guidance", None),
        ("steps", 26),
        ("training_images", 480_001),
    ],
)
def test_another_measurement_is_another_row(table: Path, name: str, value: Any) -> None:
    put(table, [row()])
    put(table, [row(**{name: value})])
    assert len(read(table)) == 2


def test_accuracy_added_later_makes_no_second_row(table: Path) -> None:
    put(table, [row()])
    put(table, [{**read(table)[0], "accuracy": 0.875}])
    (only,) = read(table)
    assert (only["value"], only["accuracy"]) == ("12.5", "0.875")


def test_rows_that_are_read_and_put_back_change_nothing(table: Path) -> None:
    put(table, [row(), row(metric="IS", stderr=math.nan), row(guidance=0.1)])
    before = table.read_bytes()
    put(table, read(table))
    assert table.read_bytes() == before


def test_rows_of_writers_at_the_same_time_are_all_there(table: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda steps: put(table, [row(steps=steps)]), range(40)))
    assert sorted(int(r["steps"]) for r in read(table)) == list(range(40))


# ---- foreign files -----------------------------------------------------------------------------

HEADER = ",".join(COLUMNS)
FOREIGN = {
    "another table": b"mine,all mine\n1,2\n",
    "a column more": f"{HEADER},mine\n".encode(),
    "columns in another order": ",".join(reversed(COLUMNS)).encode(),
    "a line too long": f"{HEADER}\n{',' * len(COLUMNS)}\n".encode(),
    "a line too short": f"{HEADER}\ndigits,digits\n".encode(),
    "no text": b"\xff\xfe\x00\x81",
    "nothing": b"",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_file_is_refused_and_left_as_it_is(table: Path, content: bytes) -> None:
    table.parent.mkdir()
    table.write_bytes(content)
    for touch in (lambda: put(table, [row()]), lambda: check(table), lambda: read(table)):
        with pytest.raises(RecordError, match="not a fidelity table") as refused:
            touch()
        assert str(table) in str(refused.value) and HEADER in str(refused.value)
    assert table.read_bytes() == content


def test_check_finds_a_folder_that_cannot_be_written_and_makes_no_table(tmp_path: Path) -> None:
    check(tmp_path / "new" / "fidelity.csv")
    assert not (tmp_path / "new" / "fidelity.csv").exists()
    (tmp_path / "mine").write_text("a file")
    with pytest.raises(UsageError, match="cannot be written"):
        check(tmp_path / "mine" / "fidelity.csv")
    assert (tmp_path / "mine").read_text() == "a file"


def test_any_reader_of_csv_can_read_it(table: Path) -> None:
    put(table, [row(model="a,b"), row(model="c")])
    with open(table, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert {len(line) for line in lines} == {len(COLUMNS)} and len(lines) == 3
