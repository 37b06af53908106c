"""Records as a data set of Hugging Face datasets, whatever failed first."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from diffcls.runs.record import Record
from diffcls.runs.record_features import record_features

datasets = pytest.importorskip("datasets")


def record(i: int, error: str | None = None) -> Record:
    if error is not None:
        return Record("f" * 16, f"test/{i}", 1, (), (), 0, 0.5, error)
    return Record("f" * 16, f"test/{i}", 1, (1, 0), (None, -0.25), 20, 1.5)


@pytest.mark.parametrize(
    "shards",
    [
        [[record(0), record(1)], [record(2, "image is damaged"), record(3)]],
        [[record(0, "2026-01-01"), record(1)], [record(2)]],
        [[record(0, "first"), record(1, "second")]],
        [[record(0)], [], [record(1)]],
    ],
    ids=["failure in a later shard", "failure first", "failures alone", "empty shard"],
)
def test_records_of_all_shards_load_with_one_schema(
    shards: list[list[Record]], tmp_path: Path
) -> None:
    for i, records in enumerate(shards):
        path = tmp_path / f"records-{i}-of-{len(shards)}.jsonl"
        path.write_text("".join(one.to_line() for one in records), encoding="utf-8")
    loaded = datasets.load_dataset(
        "json",
        data_files=str(tmp_path / "records-*.jsonl"),
        features=record_features(),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded.features == record_features()
    expected = [json.loads(one.to_line()) for records in shards for one in records]
    assert sorted(loaded, key=lambda row: row["image_id"]) == expected


def test_the_features_are_the_keys_of_a_record() -> None:
    names = [field.name for field in dataclasses.fields(Record)]
    assert list(record_features()) == [*names, "checksum"]
