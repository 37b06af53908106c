"""Strict CSV tables: what is accepted equals another reader's result, the rest names its line."""

from __future__ import annotations

import csv
import io
import itertools
import os
from pathlib import Path

import pandas as pd
import pytest
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.data.csv_tables import CsvTable, has_columns, read_csv
from diffcls.support.errors import DataError

PLAIN = "prompt,classname,classidx\na photo of zero,0,0\na photo of one,1,1\n"
PROMPTS = ["a photo of zero", "a photo of one"]


def read(path: Path, content: str | bytes, line_breaks: bool = False) -> CsvTable:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_csv(path, "--prompts", ("prompt", "classidx"), ("classname",), line_breaks)


def column(table: CsvTable, name: str) -> list[str]:
    return [row.cells[name] for row in table.rows]


# ---- tables that are read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ", "),
        PLAIN.replace(
            "prompt,classname,classidx", '"Prompt" ,ClassName,CLASSIDX'.replace(" ,", ",")
        ),
        'prompt, classname, classidx\na photo of zero, "0", 0\n"a photo of one", 1, 1\n',
        PLAIN + "\n\n",
        PLAIN + ",,\n",
        PLAIN + "  \n",
        "\n" + PLAIN,
        PLAIN.rstrip("\n"),
        ",prompt,classidx\n0,a photo of zero,0\n1,a photo of one,1\n",
        "classidx,note,prompt\n0,seen,a photo of zero\n1,,a photo of one\n",
        "prompt,classidx,\na photo of zero,0,\na photo of one,1,\n",
    ],
    ids=repr,
)
def test_spellings_of_one_table_are_read_alike(tmp_path: Path, content: str | bytes) -> None:
    table = read(tmp_path / "p.csv", content)
    assert column(table, "prompt") == PROMPTS
    assert [row.whole_number("classidx") for row in table.rows] == [0, 1]


def test_text_with_separator_quotes_or_apostrophe_is_read_whole(tmp_path: Path) -> None:
    content = 'prompt,classidx\n"a digit, ""zero""",0\nbird\'s nest,1\n5" disk,2\n'
    table = read(tmp_path / "p.csv", content)
    assert column(table, "prompt") == ['a digit, "zero"', "bird's nest", '5" disk']


# ---- tables that are refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "--prompts: file is empty"),
        ("\ufeff\n \n", "--prompts: file is empty"),
        ("prompt,classidx\n", "a header but no rows"),
        ("prompt,classidx\n\n,\n", "a header but no rows"),
        ("a zero,0,0\na one,1,1\n", r"lacks the columns prompt, classidx: \['a zero', '0', '0'\]"),
        ("text;id\na;0\n", r"\['text', 'id'\].*separated by semicolons"),
        ("prompt,Prompt,classidx\na,b,0\n", r"columns occur twice: \['prompt'\]"),
        ("prompt,classidx\na digit, zero,0\n", "line 2 has 3 fields, the header has 2: 'a digit, "),
        ("classidx,prompt\n0,a digit\n1,a digit, one\n", "line 3 has 3 fields, the header has 2"),
        ("classidx;prompt\n0;a digit; zero\n", "line 2 has 3 fields.*separated by semicolons"),
        ("classidx,prompt\n\n0,a\n1\n", "line 4 has 1 fields, the header has 2: '1'"),
        ("classidx,prompt,\n0,a digit, zero\n", "line 2: field 3 belongs to no named column"),
        (",prompt,classidx\na digit,zero,0\n", "line 2: field 1 belongs to no named column"),
        ("prompt,classidx\n“a digit, zero”,0\n", "line 2 has 3 fields"),
        ('prompt,classidx\n"a zero,0\na one,1\n', "cannot read line 2.*double quote"),
        ('prompt,classidx\na,0\n"a" b,1\n', "cannot read line 3"),
        ('prompt,classidx\n"a zero,0\na one",1\n', "line 2: a text spans several lines"),
        (f"prompt,classidx\n{'a' * 200_000},0\n", "cannot read line 2 .*field limit"),
        (PLAIN.encode("utf-16"), "cannot read file .it is UTF-16"),
        ("prompt,classidx\nb,0\ncafé,1\n".encode("latin-1"), "line 3 is not UTF-8"),
        ("prompt,classidx\r\nb,0\r\na\0,1\r\n", "line 3 contains a NUL"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_table_that_could_be_misread_is_refused_in_one_line(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "p.csv", content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert str(caught.value).startswith("--prompts: ")


@pytest.mark.parametrize(
    "value", ["0_3", "3.0", "-1", "+3", "٣", "", " ", "three", "1e0", "9" * 30]
)
def test_value_that_is_no_whole_number_names_line_and_value(tmp_path: Path, value: str) -> None:
    table = read(tmp_path / "p.csv", f"prompt,classidx\na,0\nb,{value}\n")
    with pytest.raises(DataError, match="line 3: classidx is not a whole number") as caught:
        table.rows[1].whole_number("classidx")
    assert repr(value.strip()) in str(caught.value)


@pytest.mark.parametrize("name", ["none.csv", "folder", "pipe", "a\0b", "x" * 5000, "p.csv/x"])
def test_path_that_is_no_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "p.csv").write_text(PLAIN)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"--prompts: (file not found|not a file|cannot read file)"):
        read_csv(tmp_path / name, "--prompts", ("prompt", "classidx"))


def test_columns_of_a_header_are_found_for_every_separator(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    for separator in (",", ";", "\t", ", "):
        path.write_text(separator.join(("file_name", "Text")) + "\n")
        assert has_columns(path, "p.csv", ("file_name", "text"))
        assert not has_columns(path, "p.csv", ("file_name", "label"))


# ---- properties ----------------------------------------------------------------------------------

TEXTS = st.text(
    st.sampled_from([*"ab1 ,;'\"“\t\u2028é\\", "\n", "\r"]) | st.characters(codec="utf-8"),
    max_size=8,
)
TABLES = st.lists(st.tuples(TEXTS.filter(str.strip), st.integers(0, 99)), min_size=1, max_size=5)


def written(rows: list[tuple[str, int]], separator: str, end: str, quoting: int) -> str:
    file = io.StringIO(newline="")
    if any(c in text for text, _ in rows for c in "\r\n"):  # not quoted by older writers
        quoting = csv.QUOTE_ALL
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerows([("prompt", "classidx"), *rows])
    return file.getvalue()


@examples(
    rows=TABLES,
    separator=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    bom=st.booleans(),
)
def test_written_table_is_read_back_exactly(
    tmp_path: Path, rows: list[tuple[str, int]], separator: str, end: str, quoting: int, bom: bool
) -> None:
    content = ("\ufeff" if bom else "") + written(rows, separator, end, quoting)
    if "\0" in content:
        return
    table = read(tmp_path / "p.csv", content, line_breaks=True)
    assert [(row.cells["prompt"], row.whole_number("classidx")) for row in table.rows] == rows


def other_readings(content: str) -> list[list[list[str]]]:
    """Cells of all rows that are not empty, as pandas reads them in each dialect that it can."""
    readings = []
    for separator, skips in itertools.product(",;\t", (False, True)):
        try:
            frame = pd.read_csv(
                io.StringIO(content, newline=""),
                header=None,
                sep=separator,
                dtype=str,
                na_filter=False,
                skipinitialspace=skips,
            )
        except (ValueError, pd.errors.ParserError):
            continue
        cells = [[str(cell).strip() for cell in row] for row in frame.itertuples(index=False)]
        readings.append([row for row in cells if any(row)])
    return readings


@examples(rows=TABLES, edits=st.lists(st.tuples(st.integers(0, 200), TEXTS), max_size=3))
def test_edited_table_is_refused_or_read_as_by_pandas(
    tmp_path: Path, rows: list[tuple[str, int]], edits: list[tuple[int, str]]
) -> None:
    content = written(rows, ",", "\n", csv.QUOTE_MINIMAL)
    for place, text in edits:  # each replaces one character
        place %= len(content)
        content = content[:place] + text + content[place + 1 :]
    try:
        table = read(tmp_path / "p.csv", content)
    except DataError as error:
        assert "\n" not in str(error)
        return
    columns = [name for name in table.columns if name]
    accepted = [[row.cells[name].strip() for name in columns] for row in table.rows]
    for header, *lines in other_readings(content):
        names = [name.lower() for name in header]
        if set(columns) <= set(names):
            places = [names.index(name) for name in columns]
            if [[line[place] for place in places] for line in lines] == accepted:
                return
    raise AssertionError(f"pandas reads it otherwise: {content!r}, {accepted}")


@examples(content=st.binary(max_size=60))
def test_random_bytes_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "p.csv", content)
    assert "\n" not in str(caught.value)
