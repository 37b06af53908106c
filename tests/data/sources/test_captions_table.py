"""Captioned images: tables, splits and candidates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.captioned_images import SENTENCES, captions, images

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
        ("file_name,text\n00.png,\n", "row 1 of metadata.csv lacks an image or a sentence"),
        ("name,text\n00.png,a thing\n", "columns file_name and text"),
        ("file_name,text\ngone.png,a thing\n", "image in row 1 of metadata.csv not found"),
    ],
)
def test_row_without_image_or_sentence_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    images(tmp_path, 1)
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        captions_table.read_table(tmp_path / "metadata.csv")


def test_sentence_is_its_own_caption() -> None:
    assert (
        caption("folder:x", 0, 0, 7, "two dogs, one asleep", sentence=True)
        == "two dogs, one asleep"
    )
    # class names of other data sets are put into the common templates
    texts = {caption("folder:x", 0, 0, item, "red_panda") for item in range(50)}
    assert len(texts) > 20
    assert all("red panda" in text for text in texts)
