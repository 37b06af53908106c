"""Hashes and seeds: values that stored runs, caches and published numbers depend on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from diffcls.support.hashing import (
    canonical_json,
    content_hash,
    hash_file,
    hash_files,
    hash_json,
)
from diffcls.support.seeding import key, keyed_generator


def test_canonical_json_does_not_depend_on_order_or_spaces() -> None:
    assert canonical_json({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_hash_of_a_file_is_the_start_of_its_sha_256(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    assert hash_file(path) == hashlib.sha256(b"abc").hexdigest()[:16]
    assert hash_file(path, 8) == hash_file(path)[:8]


def test_hash_of_files_covers_names_and_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    whole = hash_files([two, one], tmp_path)
    assert whole == hash_files([one, two], tmp_path)
    two.rename(tmp_path / "c")
    assert hash_files([one, tmp_path / "c"], tmp_path) != whole


def test_content_hash_keeps_its_parts_apart() -> None:
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash(b"ab") == content_hash("ab")


def test_keyed_generators_of_other_purposes_are_independent() -> None:
    first, again, other = (keyed_generator(0, name).random() for name in ("a", "a", "b"))
    assert first == again != other
    assert key("noise", 0) != key("noise", 1)
