"""Data sets in parquet files, and the ways a name becomes images: which files, which rows."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.load import load_dataset
from diffcls.data.subsets import hold_out
from diffcls.support.errors import DataError, UsageError

NAMES = ("cat", "dog", "emu")


def png(gray: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), gray).save(file, "PNG")
    return file.getvalue()


def gray(item: Any) -> int:
    return int(np.asarray(item.open())[0, 0, 0])


def table(
    grays: Sequence[int],
    labels: Sequence[Any] | None = None,
    names: Sequence[str] | None = NAMES,
    paths: Sequence[str] | None = None,
    columns: tuple[str, str] = ("image", "label"),
) -> pa.Table:
    """Rows as ``datasets.Dataset.to_parquet`` writes them; labels are grays modulo 3."""
    image, label = columns
    labels = [g % 3 for g in grays] if labels is None else labels
    images = [
        {"bytes": png(g), "path": p}
        for g, p in zip(grays, paths or [None] * len(grays), strict=True)
    ]
    features: dict[str, Any] = {image: {"_type": "Image"}}
    if names is not None:
        features[label] = {"names": list(names), "_type": "ClassLabel"}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({image: pa.array(images, kind), label: labels})
    stored = json.dumps({"info": {"features": features}})
    return made.replace_schema_metadata({b"huggingface": stored.encode()})


def write(path: Path, rows: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, **options)
    return path


def grays(dataset: Dataset) -> list[int]:
    return [gray(item) for item in dataset.items]


def ids(dataset: Dataset) -> list[str]:
    return [item.image_id for item in dataset.items]


def labels(dataset: Dataset) -> list[int]:
    return [item.label for item in dataset.items]


# ---- which files -------------------------------------------------------------------------------


def test_one_file_is_read_as_the_hubs_own_library_reads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the reference reader")
    rows = {"image": [Image.new("L", (4, 4), g) for g in (7, 8, 9)], "label": [2, 0, 1]}
    kinds = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["z", "y", "x"])
    )
    path = tmp_path / "any name.parquet"
    datasets.Dataset.from_dict(rows, features=kinds).to_parquet(path)
    reference = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    dataset = load_dataset(f"parquet:{path}")
    assert dataset.class_names == tuple(reference.features["label"].names) == ("z", "y", "x")
    assert labels(dataset) == reference["label"][:] == [2, 0, 1]
    for item, row in zip(dataset.items, reference, strict=True):
        assert np.array_equal(np.asarray(item.open().convert("L")), np.asarray(row["image"]))


@pytest.mark.parametrize(
    "place",
    [
        "test-00000-of-00001.parquet",
        "test.parquet",
        "test/0000.parquet",
        "data/test-00000-of-00001.parquet",
        "data/test/any.parquet",
        "validation-00000-of-00001.parquet",
        "val.parquet",
    ],
)
@pytest.mark.parametrize("below", ["", "cifar10"])
def test_split_is_found_where_it_usually_lies(tmp_path: Path, place: str, below: str) -> None:
    write(tmp_path / below / "train-00000-of-00001.parquet", table([1, 2]))
    write(tmp_path / below / place, table([5, 6, 7]))
    assert grays(load_dataset("cifar10", root=tmp_path)) == [5, 6, 7]
    if not below:
        dataset = load_dataset(f"parquet:{tmp_path}")
        assert grays(dataset) == [5, 6, 7]
        assert dataset.name == f"parquet:{tmp_path.name}"


def test_test_split_is_preferred_to_validation(tmp_path: Path) -> None:
    for name, value in (("validation", 2), ("test", 1)):
        write(tmp_path / "data" / f"{name}.parquet", table([value, value + 3, value + 1]))
        assert grays(load_dataset(f"parquet:{tmp_path}"))[0] == value
    assert grays(load_dataset(f"parquet:{tmp_path}", "validation"))[0] == 2


def test_shards_are_read_in_their_order(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        rows = table(range(10 * i, 10 * i + 5))
        write(tmp_path / f"test-0000{i}-of-00003.parquet", rows, row_group_size=2)
    dataset = load_dataset(f"parquet:{tmp_path}")
    assert grays(dataset) == [*range(5), *range(10, 15), *range(20, 25)]
    assert labels(dataset) == [g % 3 for g in grays(dataset)]
    assert ids(dataset) == [f"test/{i}" for i in range(15)]


@pytest.mark.parametrize("there", [(0, 2), (0, 1), (1, 2)], ids=str)
def test_missing_shard_is_refused(tmp_path: Path, there: tuple[int, ...]) -> None:
    for i in there:
        write(tmp_path / f"test-0000{i}-of-00003.parquet", table([1, 2]))
    with pytest.raises(DataError, match=r"are missing.*test-0000.*allowed: files 0 to 2 of 3"):
        load_dataset(f"parquet:{tmp_path}")


def test_shards_of_two_versions_are_refused(tmp_path: Path) -> None:
    for name in ("test-00000-of-00001", "test-00000-of-00002", "test-00001-of-00002"):
        write(tmp_path / f"{name}.parquet", table([1, 2]))
    with pytest.raises(DataError, match="files of two versions"):
        load_dataset(f"parquet:{tmp_path}")


@pytest.mark.parametrize("change", [{"names": ("dog", "cat", "emu")}, {"columns": ("image", "y")}])
def test_shards_that_differ_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path / "test-00000-of-00002.parquet", table([1, 2]))
    write(tmp_path / "test-00001-of-00002.parquet", table([1, 2], **change))
    with pytest.raises(DataError, match="differ in their columns or class names"):
        load_dataset(f"parquet:{tmp_path}")


@pytest.mark.parametrize("place", ["", "missing", "notes.txt"])
def test_where_there_is_no_parquet_file_it_says_so(tmp_path: Path, place: str) -> None:
    (tmp_path / "notes.txt").write_text("no table")
    write(tmp_path / "train.parquet", table([1, 2]))
    with pytest.raises(DataError, match=r"no parquet file of this split found.*split test"):
        load_dataset(f"parquet:{tmp_path / place}")


# ---- rows --------------------------------------------------------------------------------------


def test_image_ids_are_the_paths_where_each_row_has_its_own(tmp_path: Path) -> None:
    cases = ((["a.png", "b.png"], True), (["a.png", "a.png"], False), (["a.png", None], False))
    for paths, used in cases:
        path = write(tmp_path / "one.parquet", table([1, 2], paths=paths))
        assert ids(load_dataset(f"parquet:{path}")) == (paths if used else ["test/0", "test/1"])


def test_image_column_of_bare_bytes_is_read(tmp_path: Path) -> None:
    rows = pa.table({"jpg": [png(9), png(8)], "cls": ["b", "a"]})
    dataset = load_dataset(f"parquet:{write(tmp_path / 'x.parquet', rows)}")
    assert (grays(dataset), dataset.class_names) == ([9, 8], ("a", "b"))


def test_labels_that_are_texts_are_sorted(tmp_path: Path) -> None:
    for i, words in enumerate((["pug", "cat"], ["ant", "pug"])):
        rows = table([1, 2], labels=words, names=None)
        write(tmp_path / f"test-0000{i}-of-00002.parquet", rows)
    dataset = load_dataset(f"parquet:{tmp_path}")
    assert dataset.class_names == ("ant", "cat", "pug")
    assert labels(dataset) == [2, 1, 0, 2]


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([0, 1], None, "the label column has no class names: 'label'.*--label-column"),
        ([0, None], NAMES, "rows without a label: 1"),
        (["a", None], None, "rows without a label: 1"),
        ([0.0, 1.5], NAMES, "labels are no texts or numbers"),
        ([True, False], NAMES, "labels are no texts or numbers"),
        ([[0], [1, 2]], NAMES, "labels are no texts or numbers"),
        ([0, 3], NAMES, "label of test/1 out of range: 3; allowed: 0 to 2"),
        ([0, -1], NAMES, "label of test/1 out of range: -1"),
        ([], NAMES, "no images in parquet:x"),
    ],
    ids=str,
)
def test_labels_that_say_no_class_are_refused(
    tmp_path: Path, values: list[Any], names: Sequence[str] | None, message: str
) -> None:
    rows = table(range(len(values)), labels=pa.array(values, None if values else pa.int64()))
    if names is None:
        rows = rows.replace_schema_metadata(None)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(f"parquet:{write(tmp_path / 'x.parquet', rows)}")
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"image_column": "x"}, "no image column: 'x'; allowed: image, label; .*--image-column"),
        ({"label_column": "y"}, "no label column: 'y'; allowed: image, label; .*--label-column"),
    ],
    ids=str,
)
def test_column_that_is_not_there_is_answered_with_those_that_are(
    tmp_path: Path, option: dict[str, str], message: str
) -> None:
    path = write(tmp_path / "x.parquet", table([1, 2]))
    with pytest.raises(DataError, match=message):
        load_dataset(f"parquet:{path}", **option)  # type: ignore[arg-type]


def test_columns_are_found_by_their_types_and_may_be_named(tmp_path: Path) -> None:
    rows = table([3, 4], columns=("photo", "animal"))
    path = write(tmp_path / "x.parquet", rows)
    assert labels(load_dataset(f"parquet:{path}")) == [0, 1]
    more = rows.append_column("kind", pa.array(["b", "a"]))
    dataset = load_dataset(
        f"parquet:{write(path, more)}", image_column="photo", label_column="kind"
    )
    assert (dataset.class_names, labels(dataset)) == (("a", "b"), [1, 0])
    stored = json.loads(rows.schema.metadata[b"huggingface"])
    stored["info"]["features"]["kind"] = {"names": ["b", "a"], "_type": "ClassLabel"}
    two = more.replace_schema_metadata({b"huggingface": json.dumps(stored).encode()})
    with pytest.raises(DataError, match="no label column; allowed: photo, animal, kind"):
        load_dataset(f"parquet:{write(path, two)}")  # one of two is not for us to choose


def test_no_image_is_read_before_it_is_opened_and_then_one_row_group(tmp_path: Path) -> None:
    """The bytes of the first row group's images are overwritten: only opening these notices."""
    path = write(
        tmp_path / "x.parquet",
        table(range(8)),
        row_group_size=4,
        compression="none",
        use_dictionary=False,
    )
    chunks = [pq.ParquetFile(path).metadata.row_group(g) for g in (0, 1)]
    column = next(
        c
        for c in map(chunks[0].column, range(chunks[0].num_columns))
        if c.path_in_schema == "image.bytes"
    )
    content = bytearray(path.read_bytes())
    start = column.data_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(content))
    dataset = load_dataset(f"parquet:{path}")
    assert labels(dataset) == [g % 3 for g in range(8)]
    assert [gray(item) for item in dataset.items[4:]] == [4, 5, 6, 7]
    with pytest.raises(DataError, match="cannot read parquet file"):
        dataset.items[0].open()


def test_corrupt_image_harms_no_other(tmp_path: Path) -> None:
    rows = table([1, 2, 3]).to_pylist()
    rows[0]["image"]["bytes"] = png(1)[:40]
    rows[1]["image"] = None
    made = pa.Table.from_pylist(rows, schema=table([1]).schema)
    dataset = load_dataset(f"parquet:{write(tmp_path / 'x.parquet', made)}")
    with pytest.raises(DataError, match="cannot read image"):
        dataset.items[0].open()
    with pytest.raises(DataError, match=r"no image in this row: '.*x.parquet, row 1, image'"):
        dataset.items[1].open()
    assert gray(dataset.items[2]) == 3


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table at all", None], ids=str)
def test_file_that_is_cut_short_is_refused_in_one_line(
    tmp_path: Path, content: bytes | None
) -> None:
    path = write(tmp_path / "x.parquet", table(range(20)))
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    with pytest.raises(DataError, match=r"^cannot read parquet file \(.*x.parquet'$"):
        load_dataset(f"parquet:{path}")


def test_revision_follows_the_content_and_a_new_file_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", table([1, 2]))
    first = load_dataset(f"parquet:{path}")
    again = write(tmp_path / "elsewhere" / "y.parquet", table([1, 2]))
    assert load_dataset(f"parquet:{again}").revision == first.revision
    path.unlink()
    second = load_dataset(f"parquet:{write(path, table([3, 4]))}")
    assert second.revision != first.revision
    assert (grays(second), grays(first)) == ([3, 4], [1, 2])


# ---- from a name to images ---------------------------------------------------------------------


def image_folder(root: Path, value: int = 200) -> None:
    for name in ("a", "b"):
        (root / "test" / name).mkdir(parents=True)
        Image.new("L", (4, 4), value).save(root / "test" / name / "1.png")


def test_own_layout_comes_before_tables_and_tables_before_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path)
    assert set(grays(load_dataset("stl10", root=tmp_path))) == {200}
    write(tmp_path / "data" / "test.parquet", table([5, 6, 7]))
    assert grays(load_dataset("stl10", root=tmp_path)) == [5, 6, 7]
    own = load_dataset("digits")
    module = pytest.importorskip("diffcls.data.layouts.stl10")
    monkeypatch.setattr(module, "load", lambda query: own)
    assert load_dataset("stl10", root=tmp_path) is own


def test_folder_may_be_the_parent_of_the_data_sets_own(tmp_path: Path) -> None:
    image_folder(tmp_path / "stl10")
    assert ids(load_dataset("stl10", root=tmp_path)) == ["a/1.png", "b/1.png"]


def test_missing_and_empty_roots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-root: folder not found: '.*none'"):
        load_dataset("stl10", root=tmp_path / "none")
    with pytest.raises(DataError, match=r"no stl10 found: .*layout, parquet files, or one"):
        load_dataset("stl10", root=tmp_path)


@pytest.mark.parametrize("split", ["", "..", "/etc", "a/b", "te*", "[a"])
@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_split_that_is_no_name_is_refused(tmp_path: Path, kind: str, split: str) -> None:
    with pytest.raises(UsageError, match="--split: invalid name"):
        load_dataset(f"{kind}:{tmp_path}", split)


def test_split_that_a_data_set_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown split of imagenet: 'validation'; allowed: test"):
        load_dataset("imagenet", "validation", root=tmp_path)


def test_validation_is_held_out_of_train_stratified_and_always_the_same(tmp_path: Path) -> None:
    count = catalog.SPECS["stl10"].validation
    kinds = [0] * 1500 + [1] * 750 + [2] * 250
    rows = table(range(3)).take([0] * 2500).set_column(1, "label", pa.array(kinds))
    write(tmp_path / "train.parquet", rows)
    train = load_dataset("stl10", "train", root=tmp_path)
    held = load_dataset("stl10", "validation", root=tmp_path)
    assert (train.split, held.split) == ("train", "validation")
    assert len(held) == count == 500
    assert Counter(ids(train) + ids(held)) == Counter(f"train/{i}" for i in range(2500))
    assert Counter(labels(held)) == {0: 300, 1: 150, 2: 50}
    assert ids(held) != [f"train/{i}" for i in range(count)]
    assert ids(load_dataset("stl10", "validation", root=tmp_path)) == ids(held)
    write(tmp_path / "few" / "train.parquet", rows.slice(0, 100))
    assert len(load_dataset("stl10", "validation", root=tmp_path / "few")) == 20  # a fifth
    with pytest.raises(DataError, match=r"too few training images.*: 500; allowed: more than 500"):
        hold_out(held, count)
