"""Records: fingerprints, lines with checksums, stores and shards."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcls.runs.records import Record, RecordStore, read_records
from diffcls.runs.sharding import shard_of
from diffcls.runs.spec import RunSpec
from diffcls.support.errors import RecordError, UsageError

SPEC = RunSpec(
    dataset="digits",
    data_revision="0123456789abcdef",
    split="test",
    subset="all",
    class_names=("zero", "one"),
    prompts=("a zero", "a one"),
    class_of=(0, 1),
    model="digits",
    model_revision="fedcba9876543210",
    method="diffusion",
    search="racing",
    search_options={"draws": 100, "confidence": 0.95, "budget": None},
    img_size=32,
    loss="l2",
    weighting="uniform",
    seed=0,
    dtype="float32",
    scoring_version=1,
)
HEADER: dict[str, Any] = {
    "batch_size": 64,
    "threads": 1,
    "posterior_scale": 2.0,
    "device": "cpu",
    "versions": "",
    "commit": "",
    "command": "",
    "date": "",
}
KEYS = "fingerprint image_id label ranking scores evaluations seconds error checksum".split()

texts = st.text(st.characters(), max_size=12)  # lone surrogates included
OTHER_VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys((f.name for f in dataclasses.fields(RunSpec)), texts),
    "class_names": st.lists(texts, max_size=3).map(tuple),
    "prompts": st.lists(texts, max_size=3).map(tuple),
    "class_of": st.lists(st.integers(0, 9), max_size=3).map(tuple),
    "search_options": st.dictionaries(texts, st.integers() | st.none() | texts, max_size=3),
    "img_size": st.integers(1, 4096),
    "seed": st.integers(0, 2**63),
    "scoring_version": st.integers(0, 99),
}
fields = st.sampled_from(sorted(OTHER_VALUES))
scored = st.builds(
    Record,
    fingerprint=st.just(SPEC.fingerprint),
    image_id=texts,
    label=st.integers(0, 1),
    ranking=st.permutations([0, 1]).map(tuple),
    scores=st.tuples(st.floats(), st.floats()),
    evaluations=st.integers(0, 10**6),
    seconds=st.floats(0, 1e6),
)
failed = st.builds(
    Record,
    fingerprint=st.just(SPEC.fingerprint),
    image_id=texts,
    label=st.integers(0, 9),
    ranking=st.just(()),
    scores=st.just(()),
    evaluations=st.just(0),
    seconds=st.floats(0, 1e6),
    error=texts,
)
records = scored | failed


def record(name: str, **changes: Any) -> Record:
    plain = Record(SPEC.fingerprint, name, 1, (1, 0), (-0.25, -0.125), 8, 0.5)
    return dataclasses.replace(plain, **changes)


def fill(root: Path, *names: str) -> Path:
    with RecordStore(root, SPEC) as store:
        for name in names:
            store.append(record(name))
    return store.path


# ---- the fingerprint ---------------------------------------------------------------------------


@given(st.data(), fields)
def test_fingerprint_changes_with_every_field(data: st.DataObject, name: str) -> None:
    value = data.draw(OTHER_VALUES[name])
    other = dataclasses.replace(SPEC, **{name: value})
    assert (other.fingerprint == SPEC.fingerprint) == (value == getattr(SPEC, name))


@given(st.data(), st.lists(fields, min_size=2, max_size=2, unique=True))
def test_a_value_in_another_field_is_another_run(data: st.DataObject, names: list[str]) -> None:
    value = data.draw(OTHER_VALUES[names[0]].filter(lambda v: v != getattr(SPEC, names[0])))
    first = dataclasses.replace(SPEC, **{names[0]: value})
    assert first.fingerprint != dataclasses.replace(SPEC, **{names[1]: value}).fingerprint


def test_fingerprint_depends_only_on_settings_that_define_numbers() -> None:
    assert [f.name for f in dataclasses.fields(RunSpec)] == (
        "dataset data_revision split subset class_names prompts class_of model model_revision "
        "method search search_options img_size loss weighting seed dtype noise scoring_version "
        "interpolation aggregate vote allocation rejection text_defaults quantize vae_tiling "
        "class_prior control"
    ).split()
    turned = dict(reversed(list(SPEC.search_options.items())))
    assert dataclasses.replace(SPEC, search_options=turned).fingerprint == SPEC.fingerprint


def test_fingerprint_is_the_same_in_every_version() -> None:
    # a change of this value orphans every stored run
    assert SPEC.fingerprint == "d299bbf1be44c553"


def test_later_field_is_in_the_spec_only_if_it_is_set() -> None:
    later = {
        "interpolation": "lanczos",
        "aggregate": "prompts",
        "vote": "rank",
        "allocation": "learned@made:0=1,1=2",
        "rejection": '{"background": ""}',
        "text_defaults": '{"instruction": "Describe."}',
        "class_prior": '{"class_bias": ["0", "train", "9:0"]}',
        "control": '{"kind": "canny", "model": "control-scenes", "revision": "0123456789abcdef"}',
    }
    assert not set(later) & set(SPEC.as_dict())
    for change in ({name: value} for name, value in later.items()):
        changed = dataclasses.replace(SPEC, **change)
        assert change.items() <= changed.as_dict().items()
        assert changed.fingerprint != SPEC.fingerprint


# ---- one line ----------------------------------------------------------------------------------


@given(records)
def test_line_is_flat_json_of_the_contract_without_nan(one: Record) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    line = one.to_line()
    assert line.endswith("\n") and line.count("\n") == 1
    body = json.loads(line, parse_constant=refuse)
    assert list(body) == KEYS
    finite = [s if s is not None and math.isfinite(s) else None for s in one.scores]
    assert body["scores"] == finite


@given(records)
def test_record_comes_back_as_it_was(one: Record) -> None:
    back = Record.from_line(one.to_line())
    assert back.to_line() == one.to_line()
    assert dataclasses.replace(back, scores=()) == dataclasses.replace(one, scores=())


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_checksum_covers_every_byte(flip: int) -> None:
    one = record("test/é 7", scores=(1.5e-7, -2.0), error="said “no”\x1f")
    line = one.to_line().rstrip("\n").encode()
    for i in range(len(line)):
        damaged = line[:i] + bytes([line[i] ^ flip]) + line[i + 1 :]
        with pytest.raises(ValueError):
            Record.from_line(damaged.decode())


def test_line_of_another_kind_is_refused() -> None:
    body = json.loads(record("a").to_line())
    for line in ("", "[]", "{}", "null", json.dumps({**body, "checksum": None})):
        with pytest.raises(ValueError):
            Record.from_line(line)


# ---- the store ---------------------------------------------------------------------------------


def test_torn_last_line_is_dropped_at_every_length(tmp_path: Path) -> None:
    path = fill(tmp_path, "a", "b", "c")
    whole = path.read_bytes()
    kept = b"".join(whole.splitlines(keepends=True)[:2])
    for length in range(len(kept), len(whole)):
        path.write_bytes(whole[:length])
        assert [r.image_id for r in read_records(path)] == ["a", "b"]
        with RecordStore(tmp_path, SPEC) as store:
            assert store.done == {"a", "b"}
            assert path.read_bytes() == kept
            store.append(record("c"))
        assert path.read_bytes() == whole


def test_damaged_line_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    path = fill(tmp_path, "a", "b", "c")
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b'"label":1', b'"label":0')
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(RecordError, match=f"line 2 of {path} is damaged") as caught:
        RecordStore(tmp_path, SPEC)
    assert caught.value.exit_status == 1
    assert path.read_bytes() == before
    path.write_bytes(b"\n".join(lines[:1] + lines[2:]))  # as the message says
    with RecordStore(tmp_path, SPEC) as store:  # and the shard is not locked
        assert store.done == {"a", "c"}


def test_record_of_another_run_is_refused(tmp_path: Path) -> None:
    path = fill(tmp_path, "a")
    with open(path, "a", encoding="utf-8") as file:
        file.write(record("b", fingerprint="0" * 16).to_line())
    with pytest.raises(RecordError, match="another run"):
        RecordStore(tmp_path, SPEC)


def test_a_shard_has_one_writer(tmp_path: Path) -> None:
    holder = (
        "import sys, test_records as t, pathlib\n"
        "with t.RecordStore(pathlib.Path(sys.argv[1]), t.SPEC) as store:\n"
        "    store.append(t.record('a')); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another process"):
            RecordStore(tmp_path, SPEC)
        with RecordStore(tmp_path, SPEC, (1, 2)) as other:  # another shard is free
            assert other.done == {"a"}
        process.stdin.close()
    with RecordStore(tmp_path, SPEC) as store:  # and so is this one, once its writer is gone
        assert store.done == {"a"}


def test_shards_write_side_by_side_and_are_read_together(tmp_path: Path) -> None:
    with RecordStore(tmp_path, SPEC, (0, 2)) as one, RecordStore(tmp_path, SPEC, (1, 2)) as two:
        one.append(record("b"))
        two.append(record("a"))
        one.append(record("c"))
        two.append(record("c", seconds=9.0))  # stored twice: counted once
        assert [r.image_id for r in one.records()] == ["b", "c", "a"]  # in the order of the files
        assert [*one.records()] == [*two.records()]
        assert one.done | two.done == {"a", "b", "c"}
    assert sorted(p.name for p in one.folder.glob("records-*")) == [
        "records-0-of-2.jsonl",
        "records-1-of-2.jsonl",
    ]
    with RecordStore(tmp_path, SPEC, (0, 1)) as store:  # resumes with another number of shards
        assert store.done == {"a", "b", "c"}


def test_first_header_stays(tmp_path: Path) -> None:
    with RecordStore(tmp_path, SPEC) as store:
        first = store.header(HEADER)
        assert store.header({**HEADER, "batch_size": 8}) == first
        assert first["batch_size"] == 64
        assert first["spec"] == SPEC.as_dict() and first["fingerprint"] == SPEC.fingerprint
        assert [p.name for p in store.folder.glob("run.json*")] == ["run.json"]
        with pytest.raises(ValueError):
            store.header({**HEADER, "posterior_scale": float("nan")})


def test_header_of_a_run_without_records_is_replaced_only_where_no_shard_is_held(
    tmp_path: Path,
) -> None:
    other = {**HEADER, "batch_size": 8}
    with RecordStore(tmp_path, SPEC, (0, 2)) as held:
        held.header(HEADER)
        with RecordStore(tmp_path, SPEC, (1, 2)) as store:
            # the other shard may begin at any moment, with the stored header
            assert store.header(other)["batch_size"] == 64
        with RecordStore(tmp_path, SPEC, (1, 2)) as store:
            # a merge holds all shards itself
            assert store.header(other, alone=True)["batch_size"] == 8
    with RecordStore(tmp_path, SPEC, (0, 2)) as store:
        assert store.header(HEADER)["batch_size"] == 64  # no process is left, no record either
        store.append(record("a"))
    for alone in (False, True):
        with RecordStore(tmp_path, SPEC, (0, 2)) as store:
            assert store.header(other, alone=alone)["batch_size"] == 64


def test_header_of_another_version_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with RecordStore(tmp_path, SPEC) as store:
        without = {name: value for name, value in HEADER.items() if name != "threads"}
        with pytest.raises(RecordError, match=r"lacks threads.*move the run's folder away"):
            store.header(without)


def test_folder_that_cannot_be_written_is_bad_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="--output-dir cannot be written") as caught:
        RecordStore(tmp_path / "file", SPEC)
    assert caught.value.exit_status == 2
    assert (tmp_path / "file").read_text() == "mine"


# ---- shards ------------------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(1, 20))
def test_shards_partition_the_images(count: int, n: int) -> None:
    parts = [list(shard_of(count, (i, n))) for i in range(n)]
    assert sorted(position for part in parts for position in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("shard", [(3, 2), (2, 2), (-1, 2), (0, 0), (0, -1)])
def test_shard_out_of_range_is_refused(shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="shard out of range"):
        shard_of(10, shard)


def test_a_run_of_0_1_with_min_snr_keeps_its_fingerprint() -> None:
    # the fingerprint that 0.1 computes for SPEC with weighting "min-snr"
    old, new = (dataclasses.replace(SPEC, weighting=name) for name in ("min-snr", "snr-clipped"))
    assert old.fingerprint == new.fingerprint == "73abd57d399a4bee"
    assert new.as_dict()["weighting"] == "min-snr"
