"""Lines of records: the same bytes as one JSON text of all values, and read one at a time."""

from __future__ import annotations

import dataclasses
import json
import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.metrics.calibration import expected_calibration_error, posterior
from diffcls.runs import record as module
from diffcls.runs.record import Record, each_record, intact_end, intact_length
from diffcls.runs.summary import summarise
from diffcls.support.errors import RecordError
from diffcls.support.hashing import canonical_json, hash_text


def line_of(record: Record) -> str:
    """The line of a record, by two JSON texts of all its values."""
    body = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    body["scores"] = [s if s is None or math.isfinite(s) else None for s in record.scores]
    whole = {**body, "checksum": hash_text(canonical_json(body))}
    line = json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return line.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


texts = st.text(st.characters(), max_size=8)
records = st.builds(
    Record,
    fingerprint=texts,
    image_id=texts,
    label=st.integers(0, 10**6),
    ranking=st.lists(st.integers(0, 10**6), max_size=4).map(tuple),
    scores=st.lists(st.none() | st.floats(), max_size=4).map(tuple),
    evaluations=st.integers(0, 2**53),
    seconds=st.floats(0, 1e12) | st.integers(0, 10**6),
    error=st.none() | texts,
)


@examples(record=records)
def test_line_is_that_of_two_json_texts_to_the_byte(tmp_path: Path, record: Record) -> None:
    assert record.to_line().encode() == line_of(record).encode()


def test_line_of_known_values_is_the_stored_one() -> None:
    record = Record("0" * 16, "a/ü.png", 1, (1, 0), (-0.5, 1e-7), 8, 0.25)
    assert record.to_line() == (
        '{"fingerprint":"0000000000000000","image_id":"a/ü.png","label":1,"ranking":[1,0],'
        '"scores":[-0.5,1e-07],"evaluations":8,"seconds":0.25,"error":null,'
        '"checksum":"7e380d6bd3ee31be"}\n'
    )


def scored(count: int, classes: int) -> list[Record]:
    """Records of random scores, in an order that is not that of their ids."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, classes))
    return [
        Record(
            *("0" * 16, f"test/{i:03}", int(rng.integers(classes))),
            tuple(map(int, np.argsort(-rows[i]))),
            tuple(map(float, rows[i])),
            *(int(rng.integers(1, 99)), float(rng.random())),
        )
        for i in rng.permutation(count)
    ]


def test_summary_holds_one_record_at_a_time() -> None:
    alive: list[weakref.ref[Record]] = []

    def one_by_one() -> Iterator[Record]:
        for i in range(20):
            assert sum(ref() is not None for ref in alive) <= 1
            record = Record("0" * 16, f"test/{i}", 0, (0, 1), (0.5, 0.25), 2, 0.5)
            alive.append(weakref.ref(record))
            yield record
            del record

    row = summarise(one_by_one(), {"n_classes": 2}, n_asked=20, posterior_scale=1.0)
    assert row["n_scored"] == 20 and row["accuracy"] == 1.0


def test_figures_are_those_of_all_records_at_once_to_the_bit() -> None:
    several = scored(200, 12)
    row = summarise(several, {"n_classes": 12}, n_asked=200, posterior_scale=0.7)
    in_order = sorted(several, key=lambda record: record.image_id)
    posteriors = [posterior(record.scores, 0.7) for record in in_order]
    labels = [record.label for record in in_order]
    assert row["ece"] == expected_calibration_error(posteriors, labels)
    assert row["top5"] == np.mean([r.label in r.ranking[:5] for r in several])
    assert row["evaluations_per_image"] == sum(r.evaluations for r in several) / 200


def test_records_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "records-0-of-1.jsonl"
    path.write_text("".join(record.to_line() for record in scored(3, 2)) + "damaged\n")
    read = each_record(path)
    assert [next(read).image_id for _ in range(3)] == [r.image_id for r in scored(3, 2)]
    with pytest.raises(RecordError, match="line 4"):
        next(read)


blocks = st.sampled_from([b"x", b"\0", b"\n", b"\0" * 512, b"y" * 300 + b"\n"])


@examples(data=st.lists(blocks, max_size=60).map(b"".join), tail=st.integers(1, 2000))
def test_end_of_a_file_is_that_of_its_whole_content(tmp_path: Path, data: bytes, tail: int) -> None:
    path = tmp_path / "records-0-of-1.jsonl"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TAIL_BYTES", tail)
        patch.setattr(module, "MAX_UNSYNCED_RECORDS", 3)
        assert intact_end(path) == intact_length(data)
