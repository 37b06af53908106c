"""Class names: order, words, and names that are the same."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest
from helpers.log_messages import own_messages
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.data.class_names import (
    check_own_names,
    normalise,
    read_class_names,
    sort_names,
    words_of,
)
from diffcls.support.errors import DataError, DiffclsError, UsageError


@examples(names=st.sets(st.integers(-(10**6), 10**6).map(str)))
def test_names_that_are_all_whole_numbers_are_sorted_by_value(names: set[str]) -> None:
    assert sort_names(names) == [str(value) for value in sorted(map(int, names))]


@examples(names=st.sets(st.text(), min_size=1))
def test_names_that_are_not_all_numbers_are_sorted_as_text(names: set[str]) -> None:
    names |= {"cat"}
    assert sort_names(names) == sorted(names)
    shuffled = random.Random(0).sample(sorted(names), len(names))
    assert sort_names(shuffled) == sort_names(names)


@pytest.mark.parametrize("names", [["²", "1", "10", "9"], ["9", "10", ""], ["1.0", "10", "9"]])
def test_other_digits_and_fractions_are_no_whole_numbers(names: list[str]) -> None:
    assert sort_names(names) == sorted(names)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("american_bulldog", "american bulldog"),
        ("__pit__bull_", "pit bull"),
        ("Pit Bull", "Pit Bull"),
        ("F-18", "F-18"),
        ("_", "_"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_words_of_a_folder_name(name: str, words: str) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog", "cat"],
        ["cat", "dog", "Cat"],
        ["cat", "dog", "cat "],
        ["caf\u00e9", "dog", "cafe\u0301"],
        ["pit bull", "dog", "pit  bull"],
        ["stra\u00dfe", "STRASSE"],
    ],
)
def test_names_that_differ_only_in_case_spaces_or_unicode_form_are_duplicates(
    names: list[str],
) -> None:
    with pytest.raises(UsageError, match="duplicate labels") as caught:
        check_own_names(names, "labels")
    assert all(repr(name) in str(caught.value) for name in names if name != "dog")


def test_different_names_are_no_duplicates() -> None:
    check_own_names(["cat", "cats", "pit bull", "pit_bull", "pitbull"], "labels")


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_empty_name_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match="empty name among the folders of classes"):
        check_own_names(["cat", name], "folders of classes")


@examples(name=st.text())
def test_unicode_forms_of_a_name_are_joined(name: str) -> None:
    for form in ("NFC", "NFD"):
        assert normalise(unicodedata.normalize(form, name)) == normalise(name)


# ---- files of class names ------------------------------------------------------------------------

FOLDERS = ("n01", "n02", "n03")
NAMES = ("tench", "great white shark, white shark", "hen")


@pytest.mark.parametrize(
    "text",
    [
        "tench\ngreat white shark, white shark\nhen\n",
        "\ufefftench\r\n  great white shark, white shark \r\nhen\r\n\r\n",
        'classidx,classname\n2,hen\n0,tench\n1,"great white shark, white shark"\n',
        'folder,classname\nn03,hen\nN01,tench\nn02,"great white shark, white shark"\n',
        "Folder;ClassName\nn03;hen\nn01;tench\nn02;great white shark, white shark\n",
    ],
    ids=["lines", "lines of Windows", "by index", "by folder", "semicolons"],
)
@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_names_of_a_file_replace_those_of_folders(tmp_path: Path, text: str, suffix: str) -> None:
    if suffix == "csv" and "classname" not in text.lower():
        return
    path = tmp_path / f"names.{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_class_names(path, FOLDERS) == NAMES


def test_order_of_names_without_folders_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "names.txt").write_text("".join(f"name {k}\n" for k in range(12)))
    read_class_names(tmp_path / "names.txt", [f"n{k}" for k in range(12)])
    (message,) = own_messages(caplog)
    assert "0 = 'n0 as name 0', 1 = 'n1 as name 1'" in message
    assert "name 9" in message and "name 10" not in message and "(12 in all)" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file is empty"),
        ("tench\nshark\n", r"file has 2 names, the data set 3 classes.*n01, n02, n03"),
        ("tench\n\nshark\nhen\n", "line 2 is empty"),
        ("tench\nTench \nhen\n", "duplicate names in --classnames"),
        ("classname\na\nb\nc\n", "lacks the column classidx"),
        ("classidx,classname\n0,a\n1,b\n", "does not name every class once: 'classidx 0, 1'"),
        ("classidx,classname\n0,a\n1,b\n2,c\n2,d\n", "does not name every class once"),
        ("classidx,classname\n1,a\n2,b\n3,c\n", "does not name every class once"),
        ("classidx,classname\n0,a, b\n1,c\n2,d\n", "line 2 has 3 fields, the header has 2"),
        ("folder,classname\nn01,a\nn02,b\nn04,c\n", "does not name every folder once"),
        ("folder,classname\nn01,a\nn02,b\nn03,\n", "line 4: empty classname"),
    ],
    ids=repr,
)
def test_file_that_does_not_name_every_class_once_is_an_error(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(DiffclsError, match=message):
        read_class_names(tmp_path / "names.txt", FOLDERS)


def test_csv_without_a_column_of_names_is_no_list_of_names(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("0,tench\n1,shark\n2,hen\n")
    with pytest.raises(DataError, match="lacks the columns classidx, classname"):
        read_class_names(tmp_path / "names.csv", FOLDERS)


@examples(content=st.text() | st.lists(st.text(max_size=5)).map("\n".join))
def test_any_text_names_every_class_or_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "names.txt"
    path.write_text(content, encoding="utf-8", newline="")
    lines = content.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    try:
        names = read_class_names(path, ("a", "b"))
    except DiffclsError as error:
        assert "\n" not in str(error)
    else:
        assert list(names) == [line.strip() for line in lines]
