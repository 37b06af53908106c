"""Cache of fitted arrays: each entry is computed once, and damage is reported."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import Maker, fit_in_a_process

from diffcls.support.cache import Arrays, fitted
from diffcls.support.errors import RecordError


def files(folder: Path) -> list[str]:
    """Names of all files below, but for locks, which stay."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_same_definition_is_made_once(tmp_path: Path) -> None:
    maker = Maker()
    first, second = (fitted(tmp_path, "probe", {"seed": 0}, maker) for _ in range(2))
    assert maker.calls == 1
    for arrays in (first, second):
        assert set(arrays) == {"weights", "name"} and str(arrays["name"]) == "mid_block"
        assert np.array_equal(arrays["weights"], [[0, 1, 2], [3, 4, 5]])


def test_another_definition_is_computed_again(tmp_path: Path) -> None:
    maker = Maker()
    for defined_by in ({"seed": 0}, {"seed": 1}, {"seed": 0, "more": None}):
        fitted(tmp_path, "probe", defined_by, maker)
    fitted(tmp_path, "other", {"seed": 0}, maker)
    assert maker.calls == 4 == len(files(tmp_path))


def test_order_of_the_definition_does_not_count(tmp_path: Path) -> None:
    maker = Maker()
    fitted(tmp_path, "probe", {"a": 1, "b": 2}, maker)
    fitted(tmp_path, "probe", {"b": 2, "a": 1}, maker)
    assert maker.calls == 1


def single(_: bytes) -> bytes:
    buffer = BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


def directory_flag(offset: int, bit: int) -> Callable[[bytes], bytes]:
    """Flips a bit of the zip directory's first entry (APPNOTE 4.3.12)."""

    def flip(data: bytes) -> bytes:
        at = data.index(b"PK\x01\x02") + offset
        return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]

    return flip


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"nothing",
        lambda data: data[: len(data) // 2],
        lambda data: data[:60] + bytes(20) + data[80:],
        single,
        directory_flag(8, 1),  # encrypted
        directory_flag(10, 128),  # an unknown compression method
    ],
    ids=["empty", "no archive", "cut off", "zeros", "one array", "encrypted", "compression"],
)
def test_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    fitted(tmp_path, "probe", {"seed": 0}, Maker())
    (path,) = tmp_path.rglob("*.npz")
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    maker = Maker()
    with pytest.raises(RecordError, match=path.name):
        fitted(tmp_path, "probe", {"seed": 0}, maker)
    assert maker.calls == 0 and path.read_bytes() == damaged


def test_one_of_several_simultaneous_threads_computes_the_entry(tmp_path: Path) -> None:
    maker, results = Maker(seconds=0.1), []

    def fit() -> None:
        results.append(fitted(tmp_path, "probe", {}, maker))

    threads = [threading.Thread(target=fit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert maker.calls == 1 and len(results) == 4
    assert all(np.array_equal(arrays["weights"], results[0]["weights"]) for arrays in results)


def test_one_of_several_simultaneous_processes_computes_the_entry(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.map(fit_in_a_process, [tmp_path] * 2, chunksize=1)
    assert sorted(made) == [False, True]


def test_failed_computation_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> Arrays:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fitted(tmp_path, "probe", {}, fail)
    assert not files(tmp_path)
    maker = Maker()
    fitted(tmp_path, "probe", {}, maker)
    assert maker.calls == 1


def test_full_disk_is_reported_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RecordError, match="No space left on device"):
        fitted(tmp_path, "probe", {}, Maker())
    assert not files(tmp_path)
