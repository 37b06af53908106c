"""Captioned images: tables, splits and candidates."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from helpers.captioned_images import SENTENCES, captions, images
from helpers.properties import examples
from hypothesis import strategies as st

from diffcls.data.load import load_dataset
from diffcls.data.sources import captions_table
from diffcls.data.training_captions import caption
from diffcls.support.errors import DataError


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_label_of_each_image_is_its_sentence(tmp_path: Path, kind: str) -> None:
    data = load_dataset(f"folder:{captions(tmp_path / 'captioned', kind)}", "train")
    sentence_of = dict(zip([f"{i:02d}.png" for i in range(24)], SENTENCES, strict=True))
    assert data.sentences
    for item in data.items:
        assert data.class_names[item.label] == sentence_of[item.image_id]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_sentence_may_contain_line_separators(tmp_path: Path, kind: str) -> None:
    sentences = ["one\u2028two", "three\x85four", "five\nsix"]
    names = images(tmp_path, count=3)
    if kind == "csv":
        lines = [f'{name},"{text}"\n' for name, text in zip(names, sentences, strict=True)]
        text = "file_name,text\n" + "".join(lines)
    else:
        pairs = zip(names, sentences, strict=True)
        rows = [{"file_name": name, "text": text} for name, text in pairs]
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = tmp_path / f"metadata.{kind}"
    path.write_text(text, encoding="utf-8", newline="")
    assert [sentence for _, sentence in captions_table.read_table(path)] == sentences


def test_validation_is_held_out_of_a_folder_of_classes_without_splits(tmp_path: Path) -> None:
    for name in ("cat", "dog", "owl"):
        images(tmp_path / "classes" / name, count=20)
    parts = [
        load_dataset(f"folder:{tmp_path / 'classes'}", s).items for s in ("train", "validation")
    ]
    train_ids, held = ({item.image_id for item in part} for part in parts)
    assert not train_ids & held
    assert (len(train_ids), len(held)) == (54, 6)


def test_validation_is_held_out_of_captions_without_splits(tmp_path: Path) -> None:
    name = f"folder:{captions(tmp_path / 'captioned')}"
    train_ids, held = (
        {item.image_id for item in load_dataset(name, split).items}
        for split in ("train", "validation")
    )
    assert not train_ids & held
    assert len(train_ids | held) == 24
    assert len(held) == 2
    # a folder of the split is read whole
    captions(tmp_path / "apart" / "train")
    captions(tmp_path / "apart" / "validation")
    assert len(load_dataset(f"folder:{tmp_path / 'apart'}", "train").items) == 24


def test_candidates_are_the_own_sentence_and_nine_others(tmp_path: Path) -> None:
    name = f"folder:{captions(tmp_path / 'captioned')}"
    data = load_dataset(name, "test")
    positions = set()
    for item in data.items:
        assert len(set(item.candidates)) == 10
        assert data.class_names[item.class_index].endswith(f"number {int(item.image_id[:2])}")
        positions.add(item.label)
    assert len(positions) > 3  # the own sentence has no fixed position
    again = load_dataset(name, "test")
    assert [item.candidates for item in again.items] == [item.candidates for item in data.items]


def test_all_sentences_are_candidates_if_fewer_than_ten(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    names = images(folder, 2)
    text = f"file_name,text\n{names[0]},one thing\n{names[1]},another\n"
    (folder / "metadata.csv").write_text(text, encoding="utf-8")
    data = load_dataset(f"folder:{folder}", "test")
    assert {frozenset(item.candidates) for item in data.items} == {frozenset({0, 1})}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,text\n00.png,\n", "metadata.csv: line 2 lacks an image or a sentence"),
        ("name,text\n00.png,a thing\n", "lacks the column file_name"),
        ("file_name,text\ngone.png,a thing\n", "metadata.csv: line 2: image not found"),
    ],
)
def test_row_without_image_or_sentence_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    images(tmp_path, 1)
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        captions_table.read_table(tmp_path / "metadata.csv")


def test_sentence_with_an_unquoted_comma_is_refused_with_its_line(tmp_path: Path) -> None:
    images(tmp_path, 2)
    path = tmp_path / "metadata.csv"
    path.write_text('file_name,text\n00.png,"a digit, one"\n01.png,a digit, two\n')
    with pytest.raises(DataError, match=r"metadata\.csv: line 3 has 3 fields, the header has 2"):
        load_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("text", ["file_name,label\n0/0.png,0\n", '{"file_name": "0/0.png"}\n'])
def test_table_without_sentences_beside_class_folders_leaves_the_folders_the_classes(
    tmp_path: Path, text: str
) -> None:
    for name in ("cat", "dog"):
        images(tmp_path / name, 1)
    suffix = "csv" if text.startswith("file") else "jsonl"
    (tmp_path / f"metadata.{suffix}").write_text(text)
    data = load_dataset(f"folder:{tmp_path}")
    assert data.class_names == ("cat", "dog") and not data.sentences
    assert data.passed_over == {f"metadata.{suffix} without columns file_name and text": 1}


def test_table_without_sentences_and_without_folders_is_an_error(tmp_path: Path) -> None:
    images(tmp_path, 1)
    (tmp_path / "metadata.csv").write_text("file_name,caption\n00.png,a cat\n")
    message = r"lacks the column text: \['file_name', 'caption'\]; allowed: file_name, text; name"
    with pytest.raises(DataError, match=message):
        load_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 cannot be read"),
        ("[" * 100_000, "line 2 cannot be read"),
        ("[1]", "line 2 lacks an image or a sentence"),
        ('{"file_name": "00.png", "text": ["a"]}', "line 2 lacks an image or a sentence"),
        ('{"file_name": "a\\u0000.png", "text": "a"}', "line 2: image not found"),
        ('{"file_name": "' + "a" * 5000 + '", "text": "a"}', "line 2: image not found"),
    ],
    ids=lambda value: value[:40],
)
def test_malformed_line_of_json_is_an_error(tmp_path: Path, line: str, message: str) -> None:
    images(tmp_path, 1)
    path = tmp_path / "metadata.jsonl"
    path.write_text('{"file_name": "00.png", "text": "a thing"}\n' + line + "\n")
    with pytest.raises(DataError, match=f"metadata.jsonl: {message}"):
        captions_table.read_table(path)


@examples(
    sentences=st.lists(
        st.text(st.sampled_from([*'a1, ;"\n\u2028\t']), max_size=6), min_size=1, max_size=4
    ),
    edit=st.none() | st.tuples(st.integers(0, 80), st.sampled_from([*'a,";\t\n\r\0', ""])),
)
def test_table_of_captions_is_read_exactly_or_refused(
    tmp_path: Path, sentences: list[str], edit: tuple[int, str] | None
) -> None:
    names = [f"{i}.png" for i in range(len(sentences))]
    for name in names:
        (tmp_path / name).touch()
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerows([("file_name", "text"), *zip(names, sentences, strict=True)])
    content = file.getvalue()
    if edit is not None:
        content = content[: edit[0]] + edit[1] + content[edit[0] + 1 :]
    path = tmp_path / "metadata.csv"
    path.write_text(content, encoding="utf-8", newline="")
    try:
        rows = captions_table.read_table(path)
    except DataError as error:
        assert "\n" not in str(error)
        assert edit is not None or not all(sentence.strip() for sentence in sentences)
        return
    separator = next(c for c in ",;\t" if c in content)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator)
    header, *lines = [cells for cells in reader if any(map(str.strip, cells))]
    places = [[name.strip() for name in header].index(name) for name in ("file_name", "text")]
    assert {len(cells) for cells in lines} == {len(header)}
    expected = [tuple(cells[place] for place in places) for cells in lines]
    assert [(path.name, text) for path, text in rows] == [(a, b.strip()) for a, b in expected]


def test_sentence_is_its_own_caption() -> None:
    assert (
        caption("folder:x", 0, 0, 7, "two dogs, one asleep", sentence=True)
        == "two dogs, one asleep"
    )
    # class names of other data sets are put into the common templates
    texts = {caption("folder:x", 0, 0, item, "red_panda") for item in range(50)}
    assert len(texts) > 20
    assert all("red panda" in text for text in texts)
