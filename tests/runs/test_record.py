"""Record of an image: damaged and forged ones are named by file and line, never believed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.runs.record import MAX_SECONDS, Record, read_records
from diffcls.support.errors import RecordError
from diffcls.support.hashing import hash_json

BODY: dict[str, Any] = {
    "fingerprint": "0" * 16,
    "image_id": "test/1",
    "label": 1,
    "ranking": [1, 0, 2],
    "scores": [-0.5, -0.25, None],
    "evaluations": 8,
    "seconds": 0.5,
    "error": None,
}
WRONG: dict[str, list[Any]] = {
    "fingerprint": [None, 0, []],
    "image_id": [None, 1, True, ["test/1"]],
    "label": [3, -1, True, 1.0, "1", None, [1], 10**30],
    "ranking": [
        *([], [1, 0], [1, 1, 0], [1, 0, 3], [1, 0, -1], [1, 0, 2, 2]),
        *([True, False, 2], [1.0, 0, 2], ["1", "0", "2"], None, 1, {"1": 0}, "102"),
    ],
    "scores": [[], [-0.5], [-0.5, -0.25, "x"], [1, 2, 3], [True, False, None], None, 0.5, {}],
    "evaluations": [-1, 1.5, 8.0, True, "8", None, 2**60],
    "seconds": [-0.5, True, "0.5", None, 1e300, [0.5]],
    "error": [1, True, ["failed"], "failed, and yet it has scores"],
}


def forged(**changes: Any) -> str:
    """A line with a checksum that matches, whatever it holds."""
    body = {**BODY, **changes}
    line = json.dumps({**body, "checksum": hash_json(body)}, separators=(",", ":"))
    return line + "\n"


LINES = {
    f"{key} = {value!r:.30}": forged(**{key: value}).encode()
    for key, values in WRONG.items()
    for value in values
}
DEEP = '{"a":' * 100_000
LINES |= {
    "deep": DEEP.encode() + b"\n",
    "deep list": b"[" * 100_000 + b"\n",
    "null": b"null\n",
    "list": b"[]\n",
    "text": b'"record"\n',
    "blank": b"\n",
    "no UTF-8": b"\xff\xfe\n",
    "NUL": b"\0\0\0\n",
    "infinite": forged(seconds=0.5).replace("-0.5", "1e999").encode(),
    "a key more": forged(note="").encode(),
    "spaces": forged().replace(",", ", ").encode(),
    "a label twice": forged().replace('"label":1', '"label":0,"label":1').encode(),
}


def test_record_without_damage_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records-0-of-1.jsonl"
    path.write_text(forged())
    assert [record.label for record in read_records(path)] == [1]
    failed = Record("0" * 16, "test/1", 7, (), (), 0, 0.0, "cannot be read: \udcff")
    path.write_text(failed.to_line(), encoding="utf-8")
    assert read_records(path) == [failed]
    assert len(LINES) >= 60


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_damaged_record_is_named_by_file_and_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "records-0-of-1.jsonl"
    path.write_bytes(forged().encode() + line + forged(image_id="test/2").encode())
    with pytest.raises(RecordError, match=r"line 2 of .* is damaged") as refused:
        read_records(path)
    assert str(path) in str(refused.value) and len(str(refused.value)) < 600


def test_folder_in_place_of_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="records cannot be read"):
        read_records(tmp_path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    st.lists,
    max_leaves=4,
) | st.text(max_size=5)
changed = st.dictionaries(st.sampled_from(list(BODY)), values, max_size=3)


@examples(line=st.binary() | changed.map(lambda changes: forged(**changes).encode()))
def test_any_line_is_a_possible_record_or_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "records-0-of-1.jsonl"
    path.write_bytes(line)
    try:
        records = read_records(path)
    except RecordError:
        return
    for record in records:
        classes = range(len(record.scores))
        assert sorted(record.ranking) == list(classes)
        assert record.error is not None or record.label in classes
        assert type(record.label) is int and record.label >= 0
        assert all(type(k) is int for k in record.ranking)
        assert all(s is None or (type(s) is float and math.isfinite(s)) for s in record.scores)
        assert type(record.evaluations) is int and record.evaluations >= 0
        assert 0 <= record.seconds <= MAX_SECONDS and type(record.seconds) is not bool
        assert record.to_line().encode() == line
