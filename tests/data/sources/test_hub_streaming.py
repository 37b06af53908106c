"""``--streaming``: data sets of the Hub are read in place, equal to those that are downloaded."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.parquet_files import grays
from helpers.small_hub import COMMIT, TEST_FILE, TRAIN_FILE, Hub, archive, encoded, fill, parquet

from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError, UsageError
from diffcls.support.hub import HubBusyError

AIRCRAFT = "clip-benchmark/wds_fgvc_aircraft"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed requests are repeated without a wait."""
    http = pytest.importorskip("huggingface_hub.utils._http", reason="not in light")
    monkeypatch.setattr(http.time, "sleep", lambda seconds: None)


def archives(shards: int) -> dict[str, bytes]:
    files = {
        f"test/{i}.tar": archive(
            {
                name: content
                for j in (0, 1)
                for name, content in (
                    (f"s{i}{j}.webp", encoded(10 * i + j, "WEBP")),
                    (f"s{i}{j}.cls", str((i + j) % 2).encode()),
                )
            }
        )
        for i in range(shards)
    }
    return files | {"test/nshards.txt": f"{shards}".encode(), "classnames.txt": b"707-320\nA_300"}


def identity(dataset: Dataset) -> tuple[Any, ...]:
    """All that a run's fingerprint and records have of a data set."""
    items = [(item.image_id, item.label, item.candidates) for item in dataset.items]
    names = dataset.class_names, dataset.prompt_names, dataset.name, dataset.split
    return items, names, dataset.revision, grays(dataset)


PARQUET = {TEST_FILE: parquet([5, 6, 7, 9]), TRAIN_FILE: parquet([1, 2])}
SHARDED = {f"data/test-0000{i}-of-00002.parquet": parquet([5 + i, 8 + i]) for i in (0, 1)}
PETS = {"label": ["Abyssinian", "american_bulldog", "shiba_inu"]}
CASES: dict[str, tuple[str, str, dict[str, bytes]]] = {
    "parquet": ("hf:me/set", "me/set", PARQUET),
    "shards": ("hf:me/set@v1", "me/set", SHARDED),
    "catalog": (
        "food101",
        "ethz/food101",
        {"data/validation-00000-of-00001.parquet": parquet([5])},
    ),
    "pets": (
        "pets",
        "timm/oxford-iiit-pet",
        {
            TEST_FILE: parquet(
                [0, 1, 2], PETS, image_id=["Abyssinian_1", "american_bulldog_1", "s_1"]
            )
        },
    ),
    "archives": ("aircraft", AIRCRAFT, archives(11)),
    "archives by id": (f"hf:{AIRCRAFT}", AIRCRAFT, archives(2)),
}


@pytest.mark.parametrize(("name", "repository", "files"), CASES.values(), ids=CASES.keys())
def test_streamed_data_set_is_the_downloaded_one(
    online: Hub, cache: Path, name: str, repository: str, files: dict[str, bytes]
) -> None:
    online.repositories[repository] = files
    streamed = load_dataset(name, streaming=True)
    found = identity(streamed)
    stored = [path.name for path in cache.rglob("*") if path.is_file()] if cache.exists() else []
    assert not any(path.endswith((".parquet", ".tar")) for path in stored)
    assert found == identity(load_dataset(name))
    assert streamed.revision == COMMIT


def test_local_folder_of_the_same_files_is_the_same_data_set(online: Hub, tmp_path: Path) -> None:
    online.repositories["me/set"] = PARQUET
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / TEST_FILE).write_bytes(PARQUET[TEST_FILE])
    local = load_dataset(f"parquet:{tmp_path / 'set'}")
    streamed = load_dataset("hf:me/set", streaming=True)
    assert identity(streamed)[0] == identity(local)[0]
    assert grays(streamed) == grays(local)


def test_files_in_the_cache_are_read_from_it_also_offline(
    online: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.repositories["me/set"] = SHARDED
    fill(cache, "me/set", dict([next(iter(SHARDED.items()))]))
    assert grays(load_dataset("hf:me/set", streaming=True)) == [5, 8, 6, 9]
    assert online.fetched() == {"data/test-00001-of-00002.parquet"}
    fill(cache, "me/set", SHARDED)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    assert grays(load_dataset("hf:me/set", streaming=True)) == [5, 8, 6, 9]


def _in_groups(rows: int, side: int) -> bytes:
    """A parquet file of large images in row groups of two, and its labels."""
    from PIL import Image

    def large(gray: int) -> bytes:
        file = io.BytesIO()
        Image.effect_noise((side, side), 100 + gray).save(file, "PNG")
        return file.getvalue()

    table = pq.read_table(io.BytesIO(parquet(list(range(rows)))))
    images = [{"bytes": large(i), "path": None} for i in range(rows)]
    table = table.set_column(0, "image", pa.array(images, table.schema.field("image").type))
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=2)
    return file.getvalue()


def test_labels_are_read_without_the_images_and_images_group_by_group(online: Hub) -> None:
    content = _in_groups(12, 400)
    online.repositories["me/set"] = {TEST_FILE: content}
    dataset = load_dataset("hf:me/set", streaming=True)
    assert len(dataset) == 12
    group, opened = len(content) / 6, online.sent
    for number, item in enumerate(dataset.items[:6], start=1):
        item.open()
        groups = (number + 1) // 2
        assert online.sent - opened < (groups + 0.5) * group + 1e5
    # the footer, and small columns in blocks of 64 KiB: not the images
    assert opened < 0.5 * len(content)


def _paths_alone() -> bytes:
    """A parquet file whose images are paths of files elsewhere."""
    table = pq.read_table(io.BytesIO(parquet([1, 2])))
    images = pa.array([{"bytes": None, "path": f"{i}.png"} for i in range(2)], table["image"].type)
    file = io.BytesIO()
    pq.write_table(table.set_column(0, "image", images), file)
    return file.getvalue()


# ---- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("hf:me/set", {"test/cat/a.png": encoded(1)}, "--streaming reads parquet .* has neither"),
        ("hf:me/set", {TEST_FILE: b"no table"}, "cannot read parquet file"),
        ("hf:me/set", {TEST_FILE: PARQUET[TEST_FILE][:-40]}, "cannot read parquet file"),
        ("hf:me/set", {TEST_FILE: _paths_alone()}, "--image-column: the column holds paths, not"),
        ("hf:me/set", {TRAIN_FILE: parquet([1])}, "--split: not in the repository"),
        ("hf:me/set", {"test/0.tar": b"no archive"}, "cannot read tar archive"),
        ("aircraft", archives(2) | {"test/nshards.txt": b"3"}, "archives of this split are miss"),
    ],
)
def test_repository_that_cannot_be_streamed_is_an_error_of_one_line(
    online: Hub, name: str, files: dict[str, bytes], message: str
) -> None:
    online.repositories[AIRCRAFT if name == "aircraft" else "me/set"] = files
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(name, streaming=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["digits", "folder:photos", "parquet:x", "webdataset:x"])
def test_streaming_of_other_data_sets_is_refused(name: str) -> None:
    import diffcls

    with pytest.raises(UsageError, match=r"--streaming is not read by the data set .*; remove"):
        diffcls.run_evaluation(dataset=name, model="digits", streaming=True)


def test_streaming_and_data_root_exclude_one_another(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--streaming reads the Hub's copy, and --data-root"):
        load_dataset("pets", root=tmp_path, streaming=True)


def _opened(hub: Hub) -> Dataset:
    hub.repositories["me/set"] = SHARDED
    return load_dataset("hf:me/set", streaming=True)


@pytest.mark.parametrize(
    ("fail", "kind", "message"),
    [
        (lambda hub: setattr(hub, "status", 500), TimeoutError, r"no response from me/set/data/"),
        (lambda hub: setattr(hub, "status", 503), HubBusyError, r"\(503, service unavailable\)"),
        (lambda hub: setattr(hub, "status", 429), HubBusyError, r"\(429, too many requests\)"),
        (lambda hub: setattr(hub, "status", 404), DataError, r"cannot read file \(status 404\)"),
        (lambda hub: setattr(hub, "has_ranges", False), DataError, "sends whole files only"),
        (
            lambda hub: hub.repositories.update({"me/set": dict.fromkeys(SHARDED, b"x" * 9999)}),
            DataError,
            "file was changed during the run",
        ),
    ],
    ids=["failing", "unavailable", "busy", "gone", "no ranges", "changed"],
)
def test_failed_read_is_an_error_of_the_image_that_a_later_read_does_not_have(
    online: Hub, fail: Callable[[Hub], None], kind: type[Exception], message: str
) -> None:
    dataset = _opened(online)
    fail(online)
    with pytest.raises(kind, match=message):
        dataset.items[0].open()
    online.status, online.has_ranges = 200, True
    online.repositories["me/set"] = SHARDED
    assert grays(dataset) == [5, 8, 6, 9]


def test_hub_that_fails_while_labels_are_read_is_an_error_of_one_line(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.repositories["me/set"] = SHARDED
    answer = Hub.answer

    def failing(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
        return (500, {}, b"") if "/resolve/" in path else answer(hub, path)

    monkeypatch.setattr(Hub, "answer", failing)
    with pytest.raises(DataError, match=r"cannot read the data set \(no response .*status 500"):
        load_dataset("hf:me/set", streaming=True)


def test_login_is_sent_to_the_hub_and_stands_in_no_message(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    dataset = _opened(online)
    assert {one for one in online.logins if one} == {"Bearer hf_secret"}
    online.status = 404
    with pytest.raises(DataError) as caught:
        dataset.items[0].open()
    assert "hf_secret" not in repr(caught.value) + str(caught.value)
