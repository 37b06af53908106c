"""Header of a run: a damaged ``run.json`` is named, never accepted and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.runs.header import check_proposed, read_header
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.hashing import hash_json
from diffcls.support.stored_json import parse_json

SPEC = {"dataset": "digits", "img_size": 32}
FINGERPRINT = hash_json(SPEC)
HEADER: dict[str, Any] = {
    "fingerprint": FINGERPRINT,
    "spec": SPEC,
    "batch_size": 64,
    "threads": 1,
    "posterior_scale": 2.0,
    "img_size": None,
    "device": "cpu",
    "versions": "",
    "commit": "",
    "command": "",
    "date": "",
}
WRONG: dict[str, list[Any]] = {
    "fingerprint": ["0" * 16, "", 1, None],
    "spec": [{}, [], None, {"dataset": "digits"}, {**SPEC, "seed": 0}],
    "batch_size": [0, -1, 1.5, 64.0, True, "64", None, [], 10**30, 65_537],
    "threads": [0, -1, 10**6, 1025, True, 1.0, "1", None],
    "posterior_scale": [0, -1.0, True, "2", [], 10**400],
    "img_size": [0, -32, True, 32.0, "32"],
    "device": [None, 1],
    "versions": [None, {}],
    "commit": [None, False],
    "command": [None, ["python"]],
    "date": [None, 20240101],
}
DAMAGED: dict[str, bytes] = {
    f"{key} = {value!r:.40}": json.dumps({**HEADER, key: value}).encode()
    for key, values in WRONG.items()
    for value in values
}
DAMAGED |= {
    f"without {key}": json.dumps({k: v for k, v in HEADER.items() if k != key}).encode()
    for key in HEADER
    if key != "img_size"
}
WHOLE = json.dumps(HEADER)
DAMAGED |= {
    "nothing": b"",
    "list": b"[]",
    "object": b"{}",
    "null": b"null",
    "number": b"3",
    "text": b'"run"',
    "deep": b"[" * 100_000,
    "deep value": WHOLE.replace("{}", "").encode()[:-1] + b', "x": ' + b"[" * 100_000,
    "cut off": WHOLE.encode()[:-9],
    "no UTF-8": b"\xff\xfe" + WHOLE.encode(),
    "NUL": b"\0" * 100,
    "NaN": WHOLE.replace("2.0", "NaN").encode(),
    "infinite": WHOLE.replace("2.0", "1e999").encode(),
    "key twice": WHOLE[:-1].encode() + b', "batch_size": 3}',
    "long number": WHOLE.replace(" 64", " " + "9" * 5000).encode(),
}


def stored(folder: Path, content: bytes) -> Path:
    path = folder / FINGERPRINT / "run.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_header_comes_back(tmp_path: Path) -> None:
    assert read_header(stored(tmp_path, json.dumps(HEADER).encode())) == HEADER
    without = {key: value for key, value in HEADER.items() if key != "img_size"}  # of version 0.1
    assert read_header(stored(tmp_path, json.dumps(without).encode())) == without
    assert len(DAMAGED) >= 60


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_header_is_named(tmp_path: Path, content: bytes) -> None:
    path = stored(tmp_path, content)
    with pytest.raises(RecordError, match="the run's header") as refused:
        read_header(path)
    message = str(refused.value)
    assert str(path) in message and "move the run's folder away" in message
    assert len(message) < 600
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key in WRONG for value in WRONG[key]], ids=repr
)
def test_wrong_value_is_named_with_what_is_allowed(tmp_path: Path, key: str, value: Any) -> None:
    path = stored(tmp_path, json.dumps({**HEADER, key: value}).encode())
    with pytest.raises(RecordError) as refused:
        read_header(path)
    assert key in str(refused.value)
    assert "allowed: " in str(refused.value)


def test_header_of_another_runs_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("0" * 16) / "run.json"
    path.parent.mkdir()
    path.write_text(json.dumps(HEADER))
    with pytest.raises(RecordError, match=f"the spec with fingerprint {'0' * 16}"):
        read_header(path)


def test_header_that_could_not_be_read_back_is_refused_before_it_is_written() -> None:
    check_proposed({"batch_size": 65_536, "threads": 1024, "img_size": None})
    for key, flag in (("batch_size", "--batch-size"), ("threads", "--threads")):
        with pytest.raises(UsageError, match=f"{flag} out of range: 10*; allowed: an integer"):
            check_proposed({key: 10**30})


@examples(
    content=st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(HEADER)), inner),
    ).map(lambda value: json.dumps(value).encode())
    | st.tuples(st.sampled_from(list(HEADER)), st.none() | st.integers() | st.floats()).map(
        lambda pair: json.dumps({**HEADER, pair[0]: pair[1]}).encode()
    )
)
def test_any_header_is_read_as_it_is_allowed_or_refused(tmp_path: Path, content: bytes) -> None:
    try:
        header = read_header(stored(tmp_path, content))
    except RecordError:
        return
    assert header["fingerprint"] == FINGERPRINT and header["spec"] == SPEC
    assert type(header["batch_size"]) is int and 1 <= header["batch_size"] <= 65_536
    assert type(header["threads"]) is int and 1 <= header["threads"] <= 1024
    scale = header["posterior_scale"]
    assert scale is None or 0 < scale < float("inf")


def test_strict_json_refuses_what_python_adds() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, "\xc3\xa9"]}') == {"a": [1, 2.5, None, "é"]}
    for text in ("NaN", "-Infinity", "1e999", '{"a": 1, "a": 2}', "[" * 100_000, "", "{'a': 1}"):
        with pytest.raises(ValueError):
            parse_json(text)
