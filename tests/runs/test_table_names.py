"""Names of error tables: injective, bounded, below the folder, and read back by the replay."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from helpers.properties import examples
from hypothesis import strategies as st
from PIL import Image

from diffcls.data.dataset import Item
from diffcls.runs.error_tables import ErrorArchive, read_saved
from diffcls.runs.table_names import OTHER_IDS, TableNames, other_name
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.hashing import hash_json

SPEC = {
    "dataset": "digits",
    "split": "test",
    "search": "exhaustive",
    "search_options": {"draws": 2},
    "weighting": "uniform",
    "prompts": ["a", "b"],
    "class_names": ["a", "b"],
}
RUN = {
    "fingerprint": hash_json(SPEC),
    "spec": SPEC,
    "indices": [0, 1],
    "alpha": [0.9, 0.5],
    "sigma": [0.1, 0.5],
}
ODD = [
    *(
        "",
        ".",
        "..",
        "/",
        "//",
        "a/../b",
        "a/b",
        "a/./b",
        "a//b",
        "/a/b",
        "a/b/",
        "../a",
        "../../a",
    ),
    *("/etc/passwd", "C:/a", "C:a", "..\\a", "a\\b", "a\0b", "a\nb", "\udcff", "~", "~/a"),
    *("a", "A", "a.npz", "a.npz/b", "run.json", "run.json/a", ".run.json.lock/a", ".a.npz.tmp/x"),
    *("other-ids", "other-ids/a", "OTHER-IDS/a", other_name("a/../b").removesuffix(".npz")),
    *("é", "e\u0301", "Straße", "STRASSE", "x" * 246, "x" * 247, "x" * 255, "x" * 5000),
    *("y" * 255 + "/a", "y" * 256 + "/a", "ä" * 123, "ä" * 124, "/".join("z" * 1000), "test/0"),
]


def archive(folder: Path, ids: list[str]) -> ErrorArchive:
    return ErrorArchive(folder, RUN, np.array([0.0, 1.0]), ("a", "b"), ids)


def put(tables: ErrorArchive, image_id: str, value: float) -> None:
    errors = np.full((2, 2), value, dtype=np.float32)
    result = ClassScores(image_id, -errors[:, 0], np.array([0, 1]), 4, 0.0, errors=errors)
    tables(result, Item(image_id, 1, lambda: Image.new("L", (1, 1))))


@pytest.mark.parametrize(
    "image_id",
    ["test/0", "validation/123", "cats/IMG_0001.JPG", "own photos/ä.b.png", "0.npz", "-", "a=b?"],
)
def test_ordinary_id_is_its_own_path(image_id: str) -> None:
    assert TableNames()[image_id] == TableNames([image_id, "x"])[image_id] == f"{image_id}.npz"


def test_tables_of_odd_ids_lie_below_the_folder_and_are_read_back(tmp_path: Path) -> None:
    tables = archive(tmp_path / "in" / "t", ODD)
    for value, image_id in enumerate(ODD):
        put(tables, image_id, value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["t"]
    saved = read_saved(tmp_path / "in" / "t")
    values = {i: float(table[0, 0]) for i, table in zip(saved.image_ids, saved.tables, strict=True)}
    assert values == {image_id: float(value) for value, image_id in enumerate(ODD)}
    assert all(tables.path(image_id).is_file() for image_id in ODD)


@examples(
    ids=st.lists(
        st.text(st.sampled_from("aAbß./\\: é\u0301\0\udcff")) | st.text() | st.sampled_from(ODD),
        min_size=2,
        unique=True,
    )
)
def test_names_are_injective_bounded_and_inside(ids: list[str]) -> None:
    names = TableNames(ids)
    paths = [names[image_id] for image_id in ids]
    assert len({path.casefold() for path in paths}) == len(ids)  # on every file system
    files, folders = set(paths), set()
    for path in paths:
        for kind in (PurePosixPath, PureWindowsPath):
            assert not kind(path).is_absolute() and not kind(path).drive
            assert ".." not in kind(path).parts
        assert all(0 < len(os.fsencode(f".{part}.tmp")) <= 260 for part in path.split("/"))
        assert len(path.encode()) <= 1100
        folders |= {str(parent) for parent in PurePosixPath(path).parents}
    assert not files & folders and "run.json" not in files | folders


def test_name_leaves_room_for_the_file_that_is_being_written(tmp_path: Path) -> None:
    for length in range(240, 260):
        put(archive(tmp_path, []), "x" * length, 0.0)
    assert max(len(path.name) for path in tmp_path.rglob("*.npz")) == 250
    assert len(list((tmp_path / OTHER_IDS).iterdir())) == 260 - 247


def test_table_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    tables = archive(tmp_path, [])
    put(tables, "..", 1.0)
    path = tables.path("..")
    path.rename(path.with_name("0" * 32 + ".npz"))
    with pytest.raises(RecordError, match="not an error table of this run"):
        read_saved(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b"\xff",
        json.dumps({**RUN, "indices": [0, 2]}).encode(),
        json.dumps({**RUN, "indices": [0.5]}).encode(),
        json.dumps({**RUN, "alpha": ["x", "y"]}).encode(),
        json.dumps({**RUN, "sigma": [0.1]}).encode(),
        json.dumps({**RUN, "spec": {**SPEC, "search_options": {"draws": "x"}}}).encode(),
        json.dumps({**RUN, "spec": {**SPEC, "prompts": 3}}).encode(),
    ],
    ids=lambda content: content[:40].decode(errors="replace"),
)
def test_damaged_settings_of_tables_are_named(tmp_path: Path, content: bytes) -> None:
    put(archive(tmp_path, []), "test/0", 1.0)
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UsageError, match="not a folder of error tables"):
        read_saved(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == content
    if json.loads(json.dumps(RUN)) and b"fingerprint" not in content:
        with pytest.raises(UsageError, match="--save-errors folder is not one of error tables"):
            archive(tmp_path, [])


@pytest.mark.parametrize(
    "arrays",
    [
        {"label": np.int64(2)},
        {"label": np.int64(-1)},
        {"label": np.array("x")},
        {"label": np.array([0, 1])},
        {"label": np.float64(1)},
        {"errors": np.full((2, 2), np.inf, dtype=np.float32)},
        {"errors": np.full((2, 2), "x")},
        {"errors": np.ones((2, 3))},
        {"errors": np.ones((3, 2))},
        {"image_id": np.array('"test/1"')},
        {"image_id": np.array("[")},
    ],
    ids=str,
)
def test_forged_table_is_named(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    tables = archive(tmp_path, [])
    put(tables, "test/0", 1.0)
    put(tables, "test/1", 1.0)
    whole = {"errors": np.ones((2, 2)), "label": np.int64(0)}
    np.savez(tables.path("test/1"), **{**whole, **arrays})
    with pytest.raises(RecordError, match=r"test/1"):
        read_saved(tmp_path)


def test_object_in_a_table_is_refused_and_not_opened(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(marker),)

    tables = archive(tmp_path / "tables", [])
    put(tables, "test/0", 1.0)
    for name in ("errors", "label", "image_id"):
        whole = {"errors": np.ones((2, 2)), "label": np.int64(0)}
        np.savez(tables.path("test/0"), **{**whole, name: np.array([Hostile()], dtype=object)})
        with pytest.raises(RecordError, match=r"test/0"):
            read_saved(tmp_path / "tables")
        assert not marker.exists()
    with np.load(tables.path("test/0"), allow_pickle=True) as stored:  # it would have run
        assert stored["image_id"] is not None and marker.is_dir()
