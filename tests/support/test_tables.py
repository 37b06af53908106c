"""Tables: aligned text, and CSV files whose cells come back whatever they hold."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pandas as pd
import pytest
from helpers.properties import examples
from helpers.pseudo_terminal import columns_of
from hypothesis import strategies as st

from diffcls.support.errors import RecordError
from diffcls.support.tables import MAX_CELL_CHARACTERS, align, read_csv, text_cell, write_csv
from diffcls.support.text import valid_text


def test_columns_have_one_width_and_a_rule_below_the_header() -> None:
    lines = [["name", "count"], ["a", "1,000"], ["longer", "2"]]
    assert align(lines, right={"count"}).splitlines() == [
        "name    count",
        "------  -----",
        "a       1,000",
        "longer      2",
    ]
    assert align(lines).splitlines()[-1] == "longer  2"


def test_lines_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        align([["name", "count"], ["a"]])


# ---- CSV files ---------------------------------------------------------------------------------

cells = st.text(
    st.characters() | st.sampled_from("\r\n\",\0\u2028\x85\x1c\ufeff\udcff'=+-@"), max_size=8
)
LINES = [["name", "cell"], ["a", "x"]]


@examples(
    lines=st.integers(1, 3).flatmap(
        lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1)
    )
)
def test_cells_of_any_text_come_back(tmp_path: Path, lines: list[list[str]]) -> None:
    path = tmp_path / "table.csv"
    lines = [["name"] * len(lines[0]), *lines]
    write_csv(path, lines)
    expected = [[valid_text(cell) for cell in line] for line in lines]
    assert read_csv(path) == expected
    write_csv(path, read_csv(path))  # and what was read is written as it was
    assert read_csv(path) == expected


def test_carriage_return_is_read_by_other_readers(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(path, [*LINES, ["b\r", "\r\nx\r"]])
    with open(path, encoding="utf-8", newline="") as file:
        assert list(csv.reader(file, strict=True))[-1] == ["b\r", "\r\nx\r"]
    assert pd.read_csv(path).name.tolist() == ["a", "b\r"]
    assert path.read_bytes().startswith(b"name,cell\na,x\n")  # plain cells stay unquoted


def test_cells_that_no_csv_reader_takes_replace_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(path, LINES)
    before = path.read_bytes()
    with pytest.raises(RecordError, match="could not be read back"):
        write_csv(path, [*LINES, ["b", "x" * 200_000]])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    write_csv(path, [*LINES, ["b", text_cell("x" * 200_000)]])
    assert len(read_csv(path)[-1][1]) == MAX_CELL_CHARACTERS


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("plain Größe \r\n", "plain Größe \r\n"),
        ("\udcff", "\\xff"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\ud800x", "\\ud800x"),
        ("\udc41", "\\udc41"),
    ],
)
def test_text_without_bytes_in_utf_8_becomes_escape_sequences(text: str, valid: str) -> None:
    assert valid_text(text) == valid == valid_text(valid)
    assert valid.encode("utf-8").decode("utf-8") == valid


def test_cjk_and_emoji_take_two_columns_and_combining_accents_none() -> None:
    names = ["cat", "猫", "犬🐕", "한국어", "cafe\u0301", "ｆｕｌｌ", "α"]
    lines = align([["name", "n"], *([name, "1"] for name in names)]).splitlines()
    # by Unicode's East Asian Width the second column ends at one place
    assert {columns_of(line) for line in lines[1:]} == {len(lines[1])}
