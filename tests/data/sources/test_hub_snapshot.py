"""Snapshots of Hub repositories: downloaded, read from the cache, or neither."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.parquet_files import grays
from helpers.small_hub import (
    COMMIT,
    TEST_FILE,
    TRAIN_FILE,
    Hub,
    archive,
    encoded,
    fill,
    parquet,
)

from diffcls.data.load import load_dataset
from diffcls.data.sources import hub_snapshot
from diffcls.support.errors import DataError
from diffcls.support.hub import HubBusyError


def test_only_the_files_of_the_split_are_downloaded_and_only_once(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"README.md": b"", TEST_FILE: parquet([5, 6, 7]), TRAIN_FILE: parquet([1, 2])}
    online.repositories["me/set"] = files
    dataset = load_dataset("hf:me/set")
    assert (dataset.name, dataset.split, dataset.revision) == ("hf:me/set", "test", COMMIT)
    assert grays(dataset) == [5, 6, 7]
    assert online.fetched() == {TEST_FILE}
    requests = len(online.requests)
    assert grays(load_dataset("hf:me/set")) == [5, 6, 7]
    assert len(online.requests) == requests + 1  # the current commit
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    again = load_dataset("hf:me/set")
    assert (grays(again), again.revision) == ([5, 6, 7], COMMIT)
    with pytest.raises(DataError, match=r"--split: not in the cache.*'train of me/set'.*: test$"):
        load_dataset("hf:me/set", "train")
    assert len(online.requests) == requests + 1


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_revision_is_requested_and_cached(
    online: Hub, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.repositories["me/set"] = {TEST_FILE: parquet([5, 6, 7])}
    assert load_dataset(f"hf:me/set@{revision}").revision == COMMIT
    assert online.requests[0] == f"/api/datasets/me/set/revision/{revision}"
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    assert load_dataset(f"hf:me/set@{revision}").revision == COMMIT
    with pytest.raises(DataError, match="hf download --repo-type dataset me/set --revision v2`"):
        load_dataset("hf:me/set@v2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "hf:me/none",
            r"^--dataset: repository not found on the Hub: 'me/none'; check .*/me/none",
        ),
        (
            "hf:me/set@v2",
            "^--dataset: revision of me/set not found: 'v2'; choose a branch",
        ),
        (
            "hf:me/gated",
            "^--dataset: the repository on the Hub is gated: 'me/gated'; accept",
        ),
        ("hf:a/b/c", "^--dataset hf:ID: invalid repository id: 'a/b/c'; allowed: owner/name"),
        ("hf:@main", "^--dataset hf:ID: invalid repository id: ''"),
        ("hf:../x", "^--dataset hf:ID: invalid repository id: '../x'"),
    ],
)
def test_missing_gated_or_invalid_repository_is_an_error_of_one_line(
    online: Hub, name: str, message: str
) -> None:
    online.repositories |= {"me/set": {TEST_FILE: b""}, "me/gated": {TEST_FILE: b""}}
    online.gated.add("me/gated")
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(name)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [500, 0], ids=["server error", "no response"])
def test_cache_is_used_if_the_hub_fails_or_does_not_respond(
    online: Hub, cache: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffcls.support.hub.REQUEST_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(hub_snapshot, "REQUEST_TIMEOUT_SECONDS", 0.2)
    online.status = status
    fill(cache, "me/set", {TEST_FILE: parquet([5, 6, 7])})
    assert grays(load_dataset("hf:me/set")) == [5, 6, 7]
    assert len(online.requests) == 1  # no second attempt
    with pytest.raises(DataError, match="the Hub cannot be reached"):
        load_dataset("hf:me/other")


@pytest.mark.parametrize("name", ["pets", "hf:timm/oxford-iiit-pet"])
def test_repository_neither_online_nor_cached_is_an_error_with_remedies(
    cache: Path, name: str
) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(name)
    for part in (
        "'timm/oxford-iiit-pet'",
        str(cache / "datasets--timm--oxford-iiit-pet"),
        "hf download --repo-type dataset timm/oxford-iiit-pet`",
        "HF_HOME",
        "--data-root DIR",
        "folder:PATH",
        "parquet:PATH",
    ):
        assert part in str(caught.value)
    assert caught.value.exit_status == 2


# ---- a copy that lacks files ---------------------------------------------------------------------


NUMBERED = {f"default/test/{i:04d}.parquet": parquet([3 * i, 3 * i + 1, 100 + i]) for i in range(4)}
"""Files as on refs/convert/parquet: their names do not tell how many there are."""
FOLDER = {f"test/{n}/{i}.png": encoded(40 * i) for i in range(3) for n in ("cat", "dog")}


def busy(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffcls.support.hub.BACKOFF_SECONDS", (0.0,))
    hub.refusals = [(429, {"Retry-After": "3600"})] * 9


@pytest.mark.parametrize(
    ("files", "lost"),
    [
        (NUMBERED, "default/test/0001.parquet"),
        (FOLDER, "test/dog/2.png"),
        (
            {
                f"test/{i}.tar": archive({f"s{i}.png": encoded(i), f"s{i}.cls": b"0"})
                for i in range(3)
            }
            | {"classnames.txt": b"a\nb\n"},
            "test/2.tar",
        ),
    ],
    ids=["parquet", "images", "tar"],
)
@pytest.mark.parametrize("kept", ["by this package", "by hf download", "by nobody"])
def test_copy_that_lacks_a_file_is_never_the_whole_split(
    online: Hub,
    cache: Path,
    files: dict[str, bytes],
    lost: str,
    kept: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    online.repositories["me/set"] = files
    whole = load_dataset("hf:me/set")
    folder = cache / "datasets--me--set"
    (folder / "snapshots" / COMMIT / lost).unlink()
    for name in ("diffcls", "trees"):
        if (name == "diffcls") != (kept == "by this package"):
            shutil.rmtree(folder / name, ignore_errors=True)
    if kept == "by nobody":
        shutil.rmtree(folder / "trees", ignore_errors=True)
    # huggingface_hub reads each of its lists once in a process
    tree_cache = pytest.importorskip("huggingface_hub._tree_cache", reason="an earlier release")
    tree_cache._IN_MEMORY_TREE_CACHE.clear()
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    message = "may be incomplete" if kept == "by nobody" else f"1 of . files are not .*{lost}"
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("hf:me/set")
    assert "network connection" in str(caught.value) and caught.value.exit_status == 2
    monkeypatch.delenv("HF_DATASETS_OFFLINE")
    busy(online, monkeypatch)
    with pytest.raises(HubBusyError, match="in 3600 seconds to resume"):
        load_dataset("hf:me/set")
    online.refusals = []
    again = load_dataset("hf:me/set")
    assert grays(again) == grays(whole)
    assert [item.image_id for item in again.items] == [item.image_id for item in whole.items]
    busy(online, monkeypatch)
    assert grays(load_dataset("hf:me/set")) == grays(whole)


def test_list_of_files_needs_no_download_of_the_files_that_are_there(
    online: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, "me/set", NUMBERED, listed=False)
    with monkeypatch.context() as change:
        change.setenv("HF_DATASETS_OFFLINE", "1")
        with pytest.raises(DataError, match="may be incomplete: no list of its files is kept"):
            load_dataset("hf:me/set")
    online.repositories["me/set"] = NUMBERED
    expected = grays(load_dataset("hf:me/set"))
    assert online.fetched() == set() and len(expected) == 12
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    assert grays(load_dataset("hf:me/set")) == expected


@pytest.mark.parametrize("name", [TEST_FILE, "test.parquet"])
def test_copy_whose_names_state_their_number_needs_no_list(cache: Path, name: str) -> None:
    fill(cache, "me/set", {name: parquet([5, 6, 7])}, listed=False)
    assert grays(load_dataset("hf:me/set")) == [5, 6, 7]


def test_damaged_list_counts_as_none(cache: Path) -> None:
    fill(cache, "me/set", {TEST_FILE: parquet([5, 6, 7])}, listed=False)
    path = cache / "datasets--me--set" / "diffcls" / f"{COMMIT}.json"
    path.parent.mkdir()
    for damaged in ("", "{}", "[]", '{"files": [1]}', '{"files": "x"', "\0"):
        path.write_text(damaged)
        assert grays(load_dataset("hf:me/set")) == [5, 6, 7]
