"""Parquet files: the files of a split, their images and revision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.datasets import ids
from helpers.parquet_files import gray, grays, labels, png, table, write
from PIL import Image

from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError

# ---- files of a split ----------------------------------------------------------------------------


def test_file_is_read_as_by_the_library_datasets(tmp_path: Path) -> None:
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
    "name",
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
def test_files_of_a_split_are_found_in_all_usual_layouts(
    tmp_path: Path, name: str, below: str
) -> None:
    write(tmp_path / below / "train-00000-of-00001.parquet", table([1, 2]))
    write(tmp_path / below / name, table([5, 6, 7]))
    assert grays(load_dataset("cifar10", root=tmp_path)) == [5, 6, 7]
    if not below:
        dataset = load_dataset(f"parquet:{tmp_path}")
        assert grays(dataset) == [5, 6, 7]
        assert dataset.name == f"parquet:{tmp_path.name}"


def test_test_files_take_precedence_over_validation_files(tmp_path: Path) -> None:
    for name, value in (("validation", 2), ("test", 1)):
        write(tmp_path / "data" / f"{name}.parquet", table([value, value + 3, value + 1]))
        assert grays(load_dataset(f"parquet:{tmp_path}"))[0] == value
    assert grays(load_dataset(f"parquet:{tmp_path}", "validation"))[0] == 2


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        rows = table(range(10 * i, 10 * i + 5))
        write(tmp_path / f"test-0000{i}-of-00003.parquet", rows, row_group_size=2)
    dataset = load_dataset(f"parquet:{tmp_path}")
    assert grays(dataset) == [*range(5), *range(10, 15), *range(20, 25)]
    assert labels(dataset) == [g % 3 for g in grays(dataset)]
    assert ids(dataset) == [f"test/{i}" for i in range(15)]


@pytest.mark.parametrize("present", [(0, 2), (0, 1), (1, 2)], ids=str)
def test_missing_shard_is_an_error(tmp_path: Path, present: tuple[int, ...]) -> None:
    for i in present:
        write(tmp_path / f"test-0000{i}-of-00003.parquet", table([1, 2]))
    with pytest.raises(DataError, match=r"are missing.*test-0000.*allowed: files 0 to 2 of 3"):
        load_dataset(f"parquet:{tmp_path}")


def test_shards_of_different_versions_are_an_error(tmp_path: Path) -> None:
    for name in ("test-00000-of-00001", "test-00000-of-00002", "test-00001-of-00002"):
        write(tmp_path / f"{name}.parquet", table([1, 2]))
    with pytest.raises(DataError, match="belong to different versions"):
        load_dataset(f"parquet:{tmp_path}")


@pytest.mark.parametrize("change", [{"names": ("dog", "cat", "emu")}, {"columns": ("image", "y")}])
def test_shards_with_different_columns_or_class_names_are_an_error(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    write(tmp_path / "test-00000-of-00002.parquet", table([1, 2]))
    write(tmp_path / "test-00001-of-00002.parquet", table([1, 2], **change))
    with pytest.raises(DataError, match="differ in their columns or class names"):
        load_dataset(f"parquet:{tmp_path}")


@pytest.mark.parametrize("name", ["", "missing", "notes.txt"])
def test_path_without_a_parquet_file_of_the_split_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("no table")
    write(tmp_path / "train.parquet", table([1, 2]))
    with pytest.raises(DataError, match=r"parquet:PATH: no file of this split.*split test"):
        load_dataset(f"parquet:{tmp_path / name}")


# ---- images and revision -------------------------------------------------------------------------


def test_image_ids_are_file_names_if_every_row_has_its_own(tmp_path: Path) -> None:
    cases = ((["a.png", "b.png"], True), (["a.png", "a.png"], False), (["a.png", None], False))
    for paths, used in cases:
        path = write(tmp_path / "one.parquet", table([1, 2], paths=paths))
        assert ids(load_dataset(f"parquet:{path}")) == (paths if used else ["test/0", "test/1"])


def test_image_column_may_contain_plain_bytes(tmp_path: Path) -> None:
    rows = pa.table({"jpg": [png(9), png(8)], "cls": ["b", "a"]})
    dataset = load_dataset(f"parquet:{write(tmp_path / 'x.parquet', rows)}")
    assert (grays(dataset), dataset.class_names) == ([9, 8], ("a", "b"))


def test_images_are_read_when_opened_one_row_group_at_a_time(tmp_path: Path) -> None:
    """The images of the first row group are overwritten; only opening these raises an error."""
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


def test_corrupt_image_does_not_affect_the_others(tmp_path: Path) -> None:
    rows = table([1, 2, 3]).to_pylist()
    rows[0]["image"]["bytes"] = png(1)[:40]
    rows[1]["image"] = None
    made = pa.Table.from_pylist(rows, schema=table([1]).schema)
    dataset = load_dataset(f"parquet:{write(tmp_path / 'x.parquet', made)}")
    with pytest.raises(DataError, match="cannot read image"):
        dataset.items[0].open()
    with pytest.raises(DataError, match=r"row without an image: '.*x.parquet, row 1, image'"):
        dataset.items[1].open()
    assert gray(dataset.items[2]) == 3


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table at all", None], ids=str)
def test_truncated_or_foreign_file_is_an_error_of_one_line(
    tmp_path: Path, content: bytes | None
) -> None:
    path = write(tmp_path / "x.parquet", table(range(20)))
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    with pytest.raises(DataError, match=r"^cannot read parquet file \(.*x.parquet'$"):
        load_dataset(f"parquet:{path}")


def test_revision_depends_on_the_content_and_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", table([1, 2]))
    first = load_dataset(f"parquet:{path}")
    again = write(tmp_path / "elsewhere" / "y.parquet", table([1, 2]))
    assert load_dataset(f"parquet:{again}").revision == first.revision
    path.unlink()
    second = load_dataset(f"parquet:{write(path, table([3, 4]))}")
    assert second.revision != first.revision
    assert (grays(second), grays(first)) == ([3, 4], [1, 2])


# ---- columns of paths ----------------------------------------------------------------------------


def with_paths(folder: Path, paths: list[str | None], kind: str = "struct") -> Path:
    """A table of class labels whose image column has paths and no bytes."""
    images: list[Any] = paths if kind == "text" else [{"bytes": None, "path": p} for p in paths]
    rows = pa.table({"image": images, "label": [f"class {i % 2}" for i in range(len(paths))]})
    if kind == "struct":
        field = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows = rows.set_column(0, "image", pa.array(images, field))
    return write(folder / "x.parquet", rows)


@pytest.mark.parametrize("kind", ["struct", "untyped struct", "text"])
@pytest.mark.parametrize(
    "path", ["gone.png", "/gone.png", "https://example.org/a.png", "../a.png", "a\0.png", "f"]
)
def test_column_of_paths_that_do_not_exist_is_refused_before_the_run(
    tmp_path: Path, kind: str, path: str
) -> None:
    (tmp_path / "x" / "f").mkdir(parents=True)
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "x" / "ok.png").write_bytes(png(1))
    file = with_paths(tmp_path / "x", ["ok.png", path], kind)
    with pytest.raises(DataError, match=r"the column holds paths, not images: .* in row 1 of"):
        load_dataset(f"parquet:{file}")


@pytest.mark.parametrize("kind", ["struct", "untyped struct", "text"])
def test_relative_paths_of_files_beside_the_table_are_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "images").mkdir()
    for name, value in (("a", 5), ("b", 6)):
        (tmp_path / "images" / f"{name}.png").write_bytes(png(value))
    file = with_paths(tmp_path, ["images/b.png", "images/a.png"], kind)
    dataset = load_dataset(f"parquet:{file}")
    assert grays(dataset) == [6, 5]
    assert ids(dataset) == ["images/b.png", "images/a.png"]
    (tmp_path / "images" / "a.png").write_bytes(png(7))
    assert load_dataset(f"parquet:{file}").revision != dataset.revision


def test_images_of_a_folder_written_by_the_library_datasets_are_no_failed_run(
    tmp_path: Path,
) -> None:
    datasets = pytest.importorskip("datasets", reason="the reference writer")
    for name, value in (("cat", 5), ("dog", 6)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "a.png").write_bytes(png(value))
    files = sorted((tmp_path / "photos").rglob("*.png"))
    rows = {"image": [{"bytes": None, "path": str(f)} for f in files], "label": [0, 1]}
    kinds = datasets.Features(
        image=datasets.Image(decode=False), label=datasets.ClassLabel(names=["cat", "dog"])
    )
    made = datasets.Dataset.from_dict(rows, features=kinds)
    path = write(tmp_path / "tables" / "x.parquet", made.data.table)
    with pytest.raises(DataError, match="the column holds paths, not images"):
        load_dataset(f"parquet:{path}")
    beside = write(tmp_path / "x.parquet", made.data.table)
    assert grays(load_dataset(f"parquet:{beside}")) == [5, 6]


@pytest.mark.parametrize("statistics", [True, False])
def test_one_row_with_bytes_makes_a_column_of_images(tmp_path: Path, statistics: bool) -> None:
    rows = table([1, 2, 3]).to_pylist()
    for row in rows[:2]:
        row["image"]["bytes"] = None
    made = pa.Table.from_pylist(rows, schema=table([1]).schema)
    path = write(tmp_path / "x.parquet", made, row_group_size=1, write_statistics=statistics)
    dataset = load_dataset(f"parquet:{path}")
    assert gray(dataset.items[2]) == 3
    with pytest.raises(DataError, match="row without an image"):
        dataset.items[0].open()


@pytest.mark.parametrize("values", [[1, 2], [None, None], [[0, 1], [2, 3]], [0.5, 1.5]], ids=str)
def test_column_without_images_is_refused_before_the_run(tmp_path: Path, values: list[Any]) -> None:
    path = write(tmp_path / "x.parquet", pa.table({"image": values, "label": ["a", "b"]}))
    with pytest.raises(DataError, match="--image-column: the column holds no images"):
        load_dataset(f"parquet:{path}")
