"""Tables of images and labels: columns, labels and class names."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.parquet_files import NAMES, labels, png, table, write
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError, DiffclsError, UsageError


def test_numbers_are_named_by_a_file_of_class_names(tmp_path: Path) -> None:
    data = write(tmp_path / "data.parquet", table([5, 6, 7], names=None))
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\nfly\nmoth\n")
    with pytest.raises(DataError, match=r"label column without class names.*--classnames"):
        load_dataset(f"parquet:{data}")
    dataset = load_dataset(f"parquet:{data}", classnames=names)
    assert dataset.class_names == ("ant", "bee", "fly", "moth")
    assert [item.label for item in dataset.items] == [2, 0, 1]
    named = write(tmp_path / "named.parquet", table([5, 6, 7]))
    names.write_text("ant\nbee\nfly\n")
    assert load_dataset(f"parquet:{named}", classnames=names).class_names == ("ant", "bee", "fly")


def test_class_names_of_text_labels_are_sorted(tmp_path: Path) -> None:
    for i, words in enumerate((["pug", "cat"], ["ant", "pug"])):
        rows = table([1, 2], labels=words, names=None)
        write(tmp_path / f"test-0000{i}-of-00002.parquet", rows)
    dataset = load_dataset(f"parquet:{tmp_path}")
    assert dataset.class_names == ("ant", "cat", "pug")
    assert labels(dataset) == [2, 1, 0, 2]


def test_class_names_that_are_all_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    rows = table([1, 2, 3], labels=["10", "9", "1"], names=None)
    dataset = load_dataset(f"parquet:{write(tmp_path / 'x.parquet', rows)}")
    assert dataset.class_names == ("1", "9", "10")
    assert labels(dataset) == [2, 1, 0]


def test_prompts_have_words_in_place_of_underscores(tmp_path: Path) -> None:
    rows = table([1, 2], labels=["american_bulldog", "pug"], names=None)
    dataset = load_dataset(f"parquet:{write(tmp_path / 'x.parquet', rows)}")
    assert dataset.class_names == ("american_bulldog", "pug")
    assert dataset.prompt_names == ("american bulldog", "pug")


@pytest.mark.parametrize(
    "names",
    [["cat", "cat ", "dog"], ["cat", "Cat", "dog"], ["caf\u00e9", "cafe\u0301", "dog"]],
    ids=ascii,
)
def test_labels_that_differ_only_in_case_spaces_or_unicode_form_are_an_error(
    tmp_path: Path, names: list[str]
) -> None:
    for rows in (table([0, 1, 2], labels=names, names=None), table([0, 1, 2], names=names)):
        with pytest.raises(UsageError, match="duplicate labels in column 'label'") as caught:
            load_dataset(f"parquet:{write(tmp_path / 'x.parquet', rows)}")
        assert repr(names[0]) in str(caught.value) and repr(names[1]) in str(caught.value)


def test_names_of_classes_that_are_no_list_are_ignored(tmp_path: Path) -> None:
    rows = table([1, 2])
    stored = json.loads(rows.schema.metadata[b"huggingface"])
    stored["info"]["features"]["label"]["names"] = "cat"
    rows = rows.replace_schema_metadata({b"huggingface": json.dumps(stored).encode()})
    with pytest.raises(DataError, match="label column without class names"):
        load_dataset(f"parquet:{write(tmp_path / 'x.parquet', rows)}")


def test_column_that_occurs_twice_is_an_error(tmp_path: Path) -> None:
    rows = table([1, 2]).append_column("label", pa.array([1, 0]))
    with pytest.raises(DataError, match="--label-column: column occurs twice in the table"):
        load_dataset(f"parquet:{write(tmp_path / 'x.parquet', rows)}")


def test_label_that_is_no_text_in_utf_8_is_an_error(tmp_path: Path) -> None:
    offsets, content = pa.py_buffer(np.array([0, 2, 3], np.int32)), pa.py_buffer(b"\xff\xfea")
    broken = pa.StringArray.from_buffers(2, offsets, content)
    rows = table([1, 2]).select(["image"]).append_column("label", broken)
    with pytest.raises(DataError, match="cannot read parquet file"):
        load_dataset(f"parquet:{write(tmp_path / 'x.parquet', rows)}")


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([0, 1], None, "label column without class names: 'label'.*--label-column"),
        ([0, None], NAMES, "rows without a label: 1"),
        (["a", None], None, "rows without a label: 1"),
        ([0.0, 1.5], NAMES, "contains neither texts nor integers"),
        ([True, False], NAMES, "contains neither texts nor integers"),
        ([[0], [1, 2]], NAMES, "contains neither texts nor integers"),
        ([0, 3], NAMES, "label of test/1 out of range: 3; allowed: 0 to 2"),
        ([0, -1], NAMES, "label of test/1 out of range: -1"),
        ([], NAMES, "no images in parquet:x"),
    ],
    ids=str,
)
def test_labels_without_a_class_are_an_error(
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
        ({"image_column": "x"}, "--image-column: column not found: 'x'; allowed: image, label$"),
        ({"label_column": "y"}, "--label-column: column not found: 'y'; allowed: image, label$"),
    ],
    ids=str,
)
def test_unknown_column_is_an_error_that_lists_the_columns(
    tmp_path: Path, option: dict[str, str], message: str
) -> None:
    path = write(tmp_path / "x.parquet", table([1, 2]))
    with pytest.raises(DataError, match=message):
        load_dataset(f"parquet:{path}", **option)  # type: ignore[arg-type]


def test_columns_are_detected_by_type_or_selected_by_name(tmp_path: Path) -> None:
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
    ambiguous = more.replace_schema_metadata({b"huggingface": json.dumps(stored).encode()})
    # two columns of labels: the user must select one
    with pytest.raises(DataError, match="column not found; allowed: photo, animal, kind; select"):
        load_dataset(f"parquet:{write(path, ambiguous)}")


# ---- properties ----------------------------------------------------------------------------------

LABELS: dict[str, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(
        ["cat", "cat ", "Cat", "dog", "caf\u00e9", "cafe\u0301", "", "7", "12"]
    ),
    "any text": st.text(max_size=4),
    "whole": st.integers(-1, 3),
    "large": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(),
    "bool": st.booleans(),
    "bytes": st.binary(max_size=3),
    "list": st.lists(st.integers(0, 2), max_size=2),
    "date": st.dates(),
}
IMAGES: dict[str, st.SearchStrategy[Any]] = {
    "encoded": st.just({"bytes": png(1), "path": None}),
    "paths": st.sampled_from(["a.png", "b.png", "gone.png", "/etc", "", "x" * 300]).map(
        lambda path: {"bytes": None, "path": path}
    ),
    "text": st.sampled_from(["a.png", "b.png", "gone.png", "data:image/png;base64,"]),
    "bytes": st.sampled_from([png(2), b"", b"no image"]),
    "numbers": st.lists(st.integers(0, 255), max_size=2),
}


def column(data: st.DataObject, kinds: dict[str, st.SearchStrategy[Any]], n: int) -> list[Any]:
    values = kinds[data.draw(st.sampled_from(sorted(kinds)))]
    if data.draw(st.booleans()):
        values |= st.none()
    return data.draw(st.lists(values, min_size=n, max_size=n))


@examples(
    data=st.data(),
    n=st.integers(0, 5),
    columns=st.sampled_from([("image", "label"), ("image", "cls"), ("photo", "kind")]),
    names=st.none()
    | st.lists(st.sampled_from(["cat", "Cat", "dog", "emu", "", "cat"]), max_size=4)
    | st.sampled_from(["cat", 3, {"a": 1}, [1, 2]]),
)
def test_table_is_read_as_by_pandas_or_refused(
    tmp_path: Path, data: st.DataObject, n: int, columns: tuple[str, str], names: Any
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(1))
    images, given = column(data, IMAGES, n), column(data, LABELS, n)
    try:
        rows = pa.table(dict(zip(columns, (images, given), strict=True)))
    except (pa.ArrowException, OverflowError):
        return  # no table of Arrow's
    if names is not None:
        stored = {"info": {"features": {columns[1]: {"_type": "ClassLabel", "names": names}}}}
        rows = rows.replace_schema_metadata({b"huggingface": json.dumps(stored).encode()})
    path = write(tmp_path / "x.parquet", rows)
    try:
        dataset = load_dataset(f"parquet:{path}")
    except DiffclsError as error:
        assert "\n" not in str(error) and error.exit_status == 2
        return
    frame = pd.read_parquet(path)
    found = [dataset.class_names[item.label] for item in dataset.items]
    if isinstance(given[0], str):
        assert found == list(frame[columns[1]])
    else:
        assert found == [names[k] for k in frame[columns[1]]]
    assert (
        len({unicodedata.normalize("NFC", name).strip().lower() for name in dataset.class_names})
        == len(dataset.class_names)
        >= 2
    )
    for item, image in zip(dataset.items, images, strict=True):
        path_of = image["path"] if isinstance(image, dict) else image
        try:
            item.open()
        except DataError:
            assert image in (None, b"", b"no image") or image == {"bytes": None, "path": None}
        else:
            assert isinstance(path_of, bytes) or path_of in ("a.png", "b.png", None)


@examples(
    place=st.floats(0, 1, exclude_max=True),
    change=st.binary(max_size=4),
    cut=st.booleans(),
)
def test_damaged_file_is_refused_or_read(
    tmp_path: Path, place: float, change: bytes, cut: bool
) -> None:
    path = write(tmp_path / "x.parquet", table(range(6), labels=["a", "b"] * 3, names=None))
    content = path.read_bytes()
    start = int(place * len(content))
    end = len(content) if cut else start + len(change)
    path.write_bytes(content[:start] + change + content[end:])
    try:
        dataset = load_dataset(f"parquet:{path}")
        for item in dataset.items:
            item.open()
    except DiffclsError as error:
        assert "\n" not in str(error)
