"""Files of a training: below the output folder, written once it begins, named if damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from diffcls import train
from diffcls.support.errors import RecordError
from diffcls.training.dataset_names import short_name
from diffcls.training.loop import Loop
from diffcls.training.options import TrainingOptions, folder_of
from diffcls.training.recipe_table import PIXEL_RECIPES
from diffcls.training.recipes import PixelRecipe
from diffcls.training.run_files import read_begun, read_curve


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("digits", "digits"),
        ("folder:photos/", "photos"),
        ("folder:photos/cats/..", "photos"),
        ("folder:./photos/.", "photos"),
        ("hf:owner/cats@main", "cats"),
        ("parquet:some/table.parquet", "table.parquet"),
    ],
)
def test_folder_is_named_after_the_data_set(dataset: str, name: str) -> None:
    assert short_name(dataset) == name


@pytest.mark.parametrize("kind", ["diffusion", "clip", "pixels", "classifier"])
@pytest.mark.parametrize(
    "dataset",
    [
        *(
            "hf:../..",
            "hf:a/..",
            "hf:..",
            "hf:.",
            "folder:..",
            "folder:../..",
            "folder:.",
            "folder:/",
        ),
        *("folder:x/..", "folder:x/../..", "folder:~", "parquet:..", "parquet:x/..", "folder:"),
        *("folder:" + "x" * 240, "hf:a/..\\..@b", "parquet:"),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_folder_of_any_data_set_lies_in_the_output_folder(
    kind: str, dataset: str, tmp_path: Path
) -> None:
    options = TrainingOptions(dataset=dataset, model=kind, output_dir=str(tmp_path))
    folder = folder_of(options, PIXEL_RECIPES["digits"])
    assert folder.resolve().parent == tmp_path.resolve()
    assert len(folder.name.encode("utf-8", "surrogateescape")) <= 255


@pytest.mark.parametrize("name", ["x" * 5000, "a\nb", "\udcff", "", "..", "a/b", "é" * 200])
def test_any_text_becomes_a_name_of_a_file(name: str) -> None:
    safe = short_name(f"hf:{name}")
    assert safe not in ("", ".", "..") and "/" not in safe and safe.isprintable()
    assert len(safe.encode("utf-8")) <= 255


@pytest.mark.parametrize("dataset", ["hf:../..", "folder:in/a/..", "folder:nothing", "folder:in"])
def test_refused_training_leaves_nothing(
    dataset: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "in" / "a" / "0.png")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    flags = ["--dataset", dataset, "--model", "pixels", "--images", "64", "--quiet"]
    assert train.main([*flags, "--output-dir", "out/models"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_refused_training_does_not_pin_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(loop: Loop) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "_one_step", stopped)
    out = ["--model", "pixels", "--quiet", "--threads", "1", "--output-dir", str(tmp_path / "out")]
    data = tmp_path / "own"
    data.mkdir()
    flags = ["--dataset", f"folder:{data}", *out]
    assert train.main([*flags, "--images", "64"]) == 2  # no images yet
    for label in "ab":
        (data / label).mkdir()
        for i in range(4):
            Image.new("L", (8, 8), 20 * i).save(data / label / f"{i}.png")
    assert train.main([*flags, "--images", "128"]) == 130  # another length: it begins
    stored = tmp_path / "out" / "own-pixels" / "training" / "recipe.json"
    assert json.loads(stored.read_text(encoding="utf-8"))["images"] == 128


@pytest.mark.parametrize("kind", ["pixels", "clip", "diffusion"])
def test_a_training_resumes_on_the_data_that_it_began_with_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(loop: Loop) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "_one_step", stopped)
    data = tmp_path / "own"
    for i in range(8):
        place = data / "ab"[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * i).save(place)
    flags = ["--dataset", f"folder:{data}", "--model", kind, "--images", "512", "--quiet"]
    flags += ["--threads", "1", "--output-dir", str(tmp_path / "out")]
    assert [train.main(flags) for _ in range(2)] == [130, 130]  # it begins, then resumes
    Image.new("L", (8, 8), 255).save(data / "a" / "0.png")
    capsys.readouterr()
    assert train.main(flags) == 2
    message = capsys.readouterr().err
    assert "--dataset: the images are not those" in message and message.count("\n") == 1
    # a training of an earlier version, whose plan does not name the data, resumes
    (plan,) = (tmp_path / "out").glob("*/training/recipe.json")
    stored = json.loads(plan.read_text(encoding="utf-8"))
    assert len(stored.pop("data_revision")) == 16
    plan.write_text(json.dumps(stored), encoding="utf-8")
    assert train.main(flags) == 130


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"3", b"[" * 100_000, b"\xff", b'{"widths": NaN}', b'{"a": 1, "a": 2}'],
    ids=lambda content: ascii(content[:12]),
)
def test_damaged_recipe_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "digits-pixels" / "training" / "recipe.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(RecordError, match="recipe of the begun training cannot be read"):
        read_begun(path, PixelRecipe)
    flags = ["--model", "pixels", "--images", "64", "--quiet", "--output-dir", str(tmp_path)]
    assert train.main(flags) == 1
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", ["", "[]", "null", "{}", "[" * 100_000, '{"step": [1]}'])
def test_damaged_curve_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pixels-curve.jsonl"
    point = json.dumps({"step": 1, "loss": 0.5})
    path.write_text(f"{point}\n")
    assert read_curve(path) == [{"step": 1, "loss": 0.5}]
    path.write_text(f"{point}\n{line}\n{point}\n")
    with pytest.raises(RecordError, match="a point of the curve cannot be read"):
        read_curve(path)
