"""Images with a sentence each: read, trained on, and asked about."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcls import train
from diffcls.classifiers import validation
from diffcls.data.load import load_dataset
from diffcls.data.sources import captions_table
from diffcls.data.training_captions import caption
from diffcls.evaluation.run import run_evaluation
from diffcls.models.small_stable_diffusion import TinyConfig
from diffcls.search.exhaustive import Exhaustive
from diffcls.support.errors import DataError
from diffcls.training import latent_diffusion, recipes
from diffcls.training.recipes import Recipe

SENTENCES = [f"a {shade} square, number {i}" for i, shade in enumerate(["dark", "light"] * 12)]


def images(folder: Path, count: int = 24) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i in range(count):
        name = f"{i:02d}.png"
        Image.fromarray(np.full((16, 16, 3), 40 + 9 * i, dtype=np.uint8)).save(folder / name)
        names.append(name)
    return names


def captions(folder: Path, kind: str = "csv") -> Path:
    rows = list(zip(images(folder), SENTENCES, strict=True))
    if kind == "csv":
        text = "file_name,text\n" + "".join(f'{name},"{said}"\n' for name, said in rows)
    else:
        text = "\n".join(json.dumps({"file_name": name, "text": said}) for name, said in rows)
    (folder / f"metadata.{kind}").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_every_image_has_its_own_sentence(tmp_path: Path, kind: str) -> None:
    data = load_dataset(f"folder:{captions(tmp_path / 'heap', kind)}", "train")
    said = dict(zip([f"{i:02d}.png" for i in range(24)], SENTENCES, strict=True))
    assert data.sentences
    for item in data.items:
        assert data.class_names[item.label] == said[item.image_id]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_sentence_may_hold_what_looks_like_the_end_of_a_line(tmp_path: Path, kind: str) -> None:
    said = ["one\u2028two", "three\x85four", "five\nsix"]
    names = images(tmp_path, count=3)
    if kind == "csv":
        lines = [f'{name},"{text}"\n' for name, text in zip(names, said, strict=True)]
        text = "file_name,text\n" + "".join(lines)
    else:
        pairs = zip(names, said, strict=True)
        rows = [{"file_name": name, "text": text} for name, text in pairs]
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = tmp_path / f"metadata.{kind}"
    path.write_text(text, encoding="utf-8", newline="")
    assert [sentence for _, sentence in captions_table.read_table(path)] == said


def test_a_heap_of_classes_is_parted_into_what_is_learned_and_what_is_not(tmp_path: Path) -> None:
    for name in ("cat", "dog", "owl"):
        images(tmp_path / "heap" / name, count=20)
    parts = [load_dataset(f"folder:{tmp_path / 'heap'}", s).items for s in ("train", "validation")]
    learned, held = ({item.image_id for item in part} for part in parts)
    assert not learned & held
    assert (len(learned), len(held)) == (54, 6)


def test_a_heap_is_parted_into_what_is_learned_and_what_is_not(tmp_path: Path) -> None:
    name = f"folder:{captions(tmp_path / 'heap')}"
    train_ids, held = (
        {item.image_id for item in load_dataset(name, split).items}
        for split in ("train", "validation")
    )
    assert not train_ids & held
    assert len(train_ids | held) == 24
    assert len(held) == 2
    # and a folder of its own is taken as it is
    captions(tmp_path / "apart" / "train")
    captions(tmp_path / "apart" / "validation")
    assert len(load_dataset(f"folder:{tmp_path / 'apart'}", "train").items) == 24


def test_an_image_is_asked_about_its_own_sentence_among_ten(tmp_path: Path) -> None:
    name = f"folder:{captions(tmp_path / 'heap')}"
    data = load_dataset(name, "test")
    places = set()
    for item in data.items:
        assert len(set(item.candidates)) == 10
        assert data.class_names[item.class_index].endswith(f"number {int(item.image_id[:2])}")
        places.add(item.label)
    assert len(places) > 3  # the right one does not stand in one place
    again = load_dataset(name, "test")
    assert [item.candidates for item in again.items] == [item.candidates for item in data.items]


def test_few_sentences_are_all_asked_about(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    names = images(folder, 2)
    text = f"file_name,text\n{names[0]},one thing\n{names[1]},another\n"
    (folder / "metadata.csv").write_text(text, encoding="utf-8")
    data = load_dataset(f"folder:{folder}", "test")
    assert {frozenset(item.candidates) for item in data.items} == {frozenset({0, 1})}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,text\n00.png,\n", "line 1 of the captions says no image or no sentence"),
        ("name,text\n00.png,a thing\n", "columns file_name and text"),
        ("file_name,text\ngone.png,a thing\n", "an image of the captions is not there"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    images(tmp_path, 1)
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        captions_table.read_table(tmp_path / "metadata.csv")


def test_a_sentence_is_a_caption_as_it_stands() -> None:
    assert (
        caption("folder:x", 0, 0, 7, "two dogs, one asleep", sentence=True)
        == "two dogs, one asleep"
    )
    # and the classes of unknown data are said in the common sentences
    said = {caption("folder:x", 0, 0, draw, "red_panda") for draw in range(50)}
    assert len(said) > 20
    assert all("red panda" in text for text in said)


def test_a_model_learns_from_a_folder_and_is_asked_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = TinyConfig(
        vae_channels=(8, 8, 8), unet_channels=(8, 16), text_width=16, text_layers=1, vocabulary=560
    )
    recipe = Recipe(config=small, vae_images=64, images=64, batch=32)
    monkeypatch.setattr(recipes, "ANY_RECIPE", recipe)
    monkeypatch.setattr(latent_diffusion, "VOCABULARY_CAPTIONS", 50)
    monkeypatch.setattr(validation, "Racing", lambda *_: Exhaustive(draws=1))
    heap = captions(tmp_path / "heap")
    models = tmp_path / "models"
    status = train.main(
        ["--dataset", f"folder:{heap}", "--output-dir", str(models), "--quiet", "--threads", "1"]
    )
    assert status == 0
    assert "validation accuracy" in capsys.readouterr().out
    card = json.loads((models / "heap" / "diffcls.json").read_text(encoding="utf-8"))
    assert card["trained_on"] == ["folder:heap"]
    assert card["data"]["images"] == 22
    row = run_evaluation(
        dataset=f"folder:{heap}",
        model=str(models / "heap"),
        output_dir=str(tmp_path / "results"),
        search="exhaustive",
        draws=2,
        check_model=False,
        quiet=True,
    )[0]
    assert (row["n_scored"], row["n_classes"]) == (24, 10)
    assert row["evaluations_per_image"] == 2 * (10 + 1)  # ten sentences, and the empty prompt
    assert row["supervision"] == "model trained on this data set"
