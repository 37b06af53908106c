"""Tables of images and labels: columns, labels and class names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers.parquet_files import NAMES, labels, table, write

from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError, UsageError


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
