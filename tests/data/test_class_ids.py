"""Class ids of a class-conditional model for candidate names: by name, by index, by file."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.data.class_ids import class_prompts
from diffcls.support.errors import DataError, DiffclsError, UsageError

LABELS = ("tench, Tinca tinca", "gold_fish, Carassius auratus", "crane", "crane", "F/A-18", "")


def ids(names: list[str], labels: tuple[str, ...] = LABELS, path: Path | None = None) -> list[str]:
    prompts = class_prompts(names, labels, path)
    assert prompts.class_names == tuple(names)
    assert prompts.class_of == tuple(range(len(names)))
    return list(prompts.prompts)


def test_names_and_synonyms_match_regardless_of_spelling() -> None:
    assert ids(["Goldfish", "tench", "fa 18"]) == ["1", "0", "4"]
    assert ids(["tinca-tinca", "CARASSIUS_AURATUS"]) == ["0", "1"]


def test_unknown_name_is_an_error_that_shows_both_lists() -> None:
    with pytest.raises(UsageError, match=r"none of.*'shark' of tench, shark.*allowed: tench, Tin"):
        ids(["tench", "shark"])


def test_ambiguous_name_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"several of the model's classes, \[2, 3\].*class-ids"):
        ids(["tench", "crane"])


def test_candidates_are_mapped_by_index_with_a_warning_if_the_model_has_no_names(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert ids(["b", "a"], ("",) * 3) == ["0", "1"]
    assert "candidate 0 being 'b'" in caplog.text
    with pytest.raises(UsageError, match=r"more candidates than .* classes: 3; allowed: at most 2"):
        ids(["a", "b", "c"], ("",) * 2)


def written(folder: Path, text: str) -> Path:
    path = folder / "ids.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_file_takes_precedence_over_names(tmp_path: Path) -> None:
    path = written(tmp_path, "classname,classid,classidx\nCrane,3,1\nt_ench,0,0\n")
    assert ids(["tench", "crane"], path=path) == ["0", "3"]
    assert ids(["tench", "crane"], ("",) * 6, path) == ["0", "3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classidx,id\n0,1\n1,2\n", "lacks the column classid"),
        ("classidx,classid\n0,one\n1,2\n", "line 2: classid is not a whole number: 'one'"),
        ("classidx,classid\n0,1\n", "does not cover .*'classidx 0'"),
        ("classidx,classid\n0,1\n1,2\n0,2\n", "line 4: classidx occurs twice: 0"),
        ("classidx,classid\n0,1\n1,6\n", "line 3: classid out of range: 6; allowed: below 6"),
        ("classidx,classid\n0,1\n2,1\n", "does not cover .*'classidx 0, 2'; allowed: 0 to 1"),
        ("classidx,classid,classname\n0,1,crane\n1,2,tench\n", "classname of classidx 0 differs"),
    ],
)
def test_inconsistent_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ids(["tench", "crane"], path=written(tmp_path, text))


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--class-ids: file not found"):
        ids(["tench", "crane"], path=tmp_path / "none.csv")


NUMBERS = st.integers(-1, 6).map(str) | st.sampled_from(
    ["0_1", "1.0", " 1", "٣", "", "one", "9" * 40]
)


@examples(
    rows=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4),
    whole=st.permutations(range(6)),
    valid=st.booleans(),
)
def test_ids_of_a_file_are_those_of_its_rows_or_refused(
    tmp_path: Path, rows: list[tuple[str, str]], whole: list[int], valid: bool
) -> None:
    if valid:
        rows = [("1", str(whole[0])), ("0", str(whole[1]))]
    path = tmp_path / "ids.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("classidx", "classid"), *rows])
    try:
        given = ids(["tench", "crane"], path=path)
    except DiffclsError as error:
        assert not valid and "\n" not in str(error)
        return
    kept = {index.strip(): class_id.strip() for index, class_id in rows if index or class_id}
    assert given == [kept["0"], kept["1"]] and len(kept) == 2
    assert all(0 <= int(class_id) < len(LABELS) for class_id in given)
