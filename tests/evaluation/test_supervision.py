"""Supervision: what a row says of the training data of its model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import control_nets
from PIL import Image

import diffcls
from diffcls.data import seen_images
from diffcls.data.dataset import Dataset, Item
from diffcls.data.load import load_dataset
from diffcls.evaluation.options import EvaluationOptions
from diffcls.evaluation.supervision import supervision_of
from diffcls.models import clip, control, loading
from diffcls.models.denoiser import ModelCard
from diffcls.support.errors import ModelError

TRAINED, UNKNOWN = "model trained on this data set", "unknown"
OPTIONS = EvaluationOptions()
WORDS = "zero one two three four five six seven eight nine".split()


def said(
    card: ModelCard, data: Dataset, options: EvaluationOptions = OPTIONS, prompts: Any = ()
) -> str:
    described: Any = SimpleNamespace(
        card=card, supervision=None, prompts=SimpleNamespace(prompts=prompts)
    )
    return supervision_of(options, data, described)


def save(data: Iterable[Item], root: Path, class_name: Callable[[int], str]) -> Path:
    for i, item in enumerate(data):
        folder = root / class_name(item.label)
        folder.mkdir(parents=True, exist_ok=True)
        item.open().save(folder / f"{i}.png")
    return root


def photos(root: Path, *classes: str) -> Path:
    """Images that no model was trained on."""
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(4):
            pixels = bytes((i * 37 + k * 11 + j * j) % 251 for j in range(24 * 24 * 3))
            Image.frombytes("RGB", (24, 24), pixels).save(root / name / f"{i}.png")
    return root


def bundled(name: str) -> ModelCard:
    return loading.read_card(loading.find(name))


@pytest.fixture(scope="module")
def digits() -> ModelCard:
    return bundled("digits")


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_copy_of_the_benchmark_is_recognised_under_any_names(
    tmp_path: Path, digits: ModelCard, split: str
) -> None:
    items = load_dataset("digits", split).items[:40]
    copy = save(items, tmp_path / "photos", lambda label: f"kind {'abcdefghij'[label]}")
    data = load_dataset(f"folder:{copy}")
    for model in (
        digits,
        clip.find_card("clip-digits"),
        bundled("digits-pixels"),
    ):
        assert said(model, data) == TRAINED
    for other in ("cifar10", "fashion_mnist", "scenes"):
        assert said(bundled(other), data) == "zero-shot"


def test_a_few_training_images_among_others_are_unknown(tmp_path: Path, digits: ModelCard) -> None:
    copy = save(load_dataset("digits", "test").items[:2], tmp_path / "mix", lambda _: "a b")
    for name in ("p", "q", "r", "s", "t", "u"):
        photos(tmp_path / name, name)
        shutil.move(str(tmp_path / name / name), copy / name)
    for i in range(14):
        Image.effect_noise((9 + i, 9), 80).save(copy / "p" / f"n{i}.png")
    assert said(digits, load_dataset(f"folder:{copy}")) == UNKNOWN


@pytest.mark.parametrize(
    ("classes", "model", "expected"),
    [
        (("cat", "sofa"), "cifar10", UNKNOWN),
        (("Cat", "sofa"), "cifar10", UNKNOWN),
        (("lorry", "sofa"), "cifar10", UNKNOWN),
        (("lamp", "sofa"), "cifar10", "zero-shot"),
        (("ankle_boot", "sofa"), "fashion_mnist", UNKNOWN),
        (("3", "4"), "digits", UNKNOWN),
        (("three", "sofa"), "digits", UNKNOWN),
        (("three", "sofa"), "cifar10", "zero-shot"),
    ],
)
def test_other_images_under_a_class_name_of_the_training_are_unknown(
    tmp_path: Path, classes: tuple[str, ...], model: str, expected: str
) -> None:
    data = load_dataset(f"folder:{photos(tmp_path / 'own', *classes)}")
    assert said(bundled(model), data) == expected
    assert said(ModelCard("of the Hub", "1"), data) == "zero-shot"


def test_class_names_within_a_file_of_prompts_count(tmp_path: Path) -> None:
    data = load_dataset(f"folder:{photos(tmp_path / 'own', 'n01', 'n02')}")
    cifar10 = bundled("cifar10")
    assert said(cifar10, data) == "zero-shot"
    given = replace(OPTIONS, prompts="prompts.csv")
    assert said(cifar10, data, given, ("a photo of a cat.", "a sofa")) == UNKNOWN
    assert said(cifar10, data, given, ("a photo of a lamp.", "a sofa")) == "zero-shot"


def test_ids_of_the_hub_are_the_benchmark(digits: ModelCard) -> None:
    cifar10 = bundled("cifar10")
    items = tuple(Item(str(i), i % 2, lambda: Image.new("RGB", (8, 8))) for i in range(4))
    for name in ("hf:uoft-cs/cifar10", "hf:uoft-cs/cifar10@abc", "hf:CIFAR10"):
        data = Dataset(name, "test", ("x", "y"), items, "r")
        assert said(cifar10, data) == TRAINED
        assert said(digits, data) == "zero-shot"
        assert said(replace(cifar10, trained_on=(name,)), replace(data, name="cifar10")) == TRAINED


def test_models_of_scenes_are_zero_shot_on_held_out_combinations_only(tmp_path: Path) -> None:
    for card in (bundled("scenes"), clip.find_card("clip-scenes")):
        assert said(card, load_dataset("scenes/held-out")) == "zero-shot"
        assert said(card, load_dataset("scenes/pairs")) == TRAINED
    pairs = load_dataset("scenes/counting")
    copy = save(pairs.items[:24], tmp_path / "shapes", lambda label: f"class {label}")
    assert said(bundled("scenes"), load_dataset(f"folder:{copy}")) == TRAINED


def test_a_persons_folder_name_is_no_pattern(tmp_path: Path) -> None:
    card = ModelCard("mine", "1", trained_on=("folder:set [1]", "scenes:*"))
    assert card.has_seen("folder:set [1]") and card.has_seen("scenes:7")
    assert not card.has_seen("folder:set 1")
    assert not ModelCard("mine", "1", trained_on=("folder:*",)).has_seen("folder:other")


# ---- models of one's own -----------------------------------------------------------------------


def own_model(folder: Path, train: Dataset | None, *trained_on: str) -> ModelCard:
    """A folder with a card, as a training leaves it."""
    folder.mkdir()
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    index = {"_class_name": "DDPMPipeline", **parts}
    (folder / "model_index.json").write_text(json.dumps(index))
    for part in parts:
        (folder / part).mkdir()
    (folder / "diffcls.json").write_text(json.dumps({"name": "m", "trained_on": trained_on}))
    if train is not None:
        content = seen_images.hashes_of(train).to_bytes()
        (folder / seen_images.SEEN_FILE).write_bytes(content)
    return loading.read_card(loading.find(str(folder)))


def test_a_renamed_copy_of_ones_own_training_images_is_recognised(tmp_path: Path) -> None:
    first = photos(tmp_path / "first", "lamp", "sofa")
    train = load_dataset(f"folder:{first}", "train")
    card = own_model(tmp_path / "model", train, "folder:first")
    renamed = tmp_path / "second"
    for name, new in (("lamp", "A"), ("sofa", "B")):
        shutil.copytree(first / name, renamed / new)
    assert said(card, load_dataset(f"folder:{first}")) == TRAINED
    assert said(card, load_dataset(f"folder:{renamed}")) == TRAINED
    other = tmp_path / "third"
    for name in ("Sofa", "vase"):
        (other / name).mkdir(parents=True)
        Image.effect_noise((20, 20), 50).save(other / name / "0.png")
    assert said(card, load_dataset(f"folder:{other}")) == UNKNOWN  # a class name of the training
    (other / "Sofa").rename(other / "cup")
    assert said(card, load_dataset(f"folder:{other}")) == "zero-shot"
    # a model without hashes: nothing but the name of its training data is known
    bare = own_model(tmp_path / "bare", None, "folder:first")
    assert said(bare, load_dataset(f"folder:{other}")) == UNKNOWN
    assert said(bare, load_dataset("digits")) == UNKNOWN


def test_training_images_of_a_controlnet_count_as_those_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = load_dataset(f"folder:{photos(tmp_path / 'mine', 'lamp', 'sofa')}", "train")
    renamed = tmp_path / "renamed"
    for name, new in (("lamp", "A"), ("sofa", "B")):
        shutil.copytree(tmp_path / "mine" / name, renamed / new)
    for name in ("cup", "vase"):
        (tmp_path / "other" / name).mkdir(parents=True)
        Image.effect_noise((20, 20), 50).save(tmp_path / "other" / name / "0.png")
    copy, other = load_dataset(f"folder:{renamed}"), load_dataset(f"folder:{tmp_path / 'other'}")
    plain: Any = loading.load("scenes")
    folder = control_nets.save("sd1", plain.pipeline, tmp_path / "net")
    hashes = folder / seen_images.SEEN_FILE
    whole: Any = control.steered(plain, str(folder))
    network = whole.control  # its weights are read and run once
    monkeypatch.setattr(control, "open_files", lambda *_: network)
    monkeypatch.setattr(control, "_run_once", lambda _: None)

    def steered(trained_on: str, train: Dataset | None) -> ModelCard:
        (folder / "diffcls.json").write_text(json.dumps({"trained_on": [trained_on]}))
        hashes.unlink(missing_ok=True)
        if train is not None:
            hashes.write_bytes(seen_images.hashes_of(train).to_bytes())
        return control.steered(plain, str(folder)).card

    leads = {
        "without hashes": plain.card,
        "with hashes": own_model(tmp_path / "lead", other, "folder:other"),
    }
    for lead in leads.values():
        plain.card = lead
        assert said(lead, copy) == "zero-shot"
        assert said(steered("folder:mine", mine), copy) == TRAINED
        # nothing but the name of the ControlNet's data is known
        assert said(steered("folder:mine", None), copy) == UNKNOWN
    own = steered("folder:mine", mine)
    assert said(own, other) == TRAINED  # by the hashes of the model itself
    assert said(own, replace(other, name="folder:mine")) == TRAINED  # by name
    hashes.write_bytes(b"diffcls seen 1: 3 of 3 images, 0 names\n")
    with pytest.raises(ModelError, match="damaged"):
        said(control.steered(plain, str(folder)).card, copy)


def test_a_model_trained_on_a_copy_is_not_zero_shot_on_the_benchmark(tmp_path: Path) -> None:
    copy = save(load_dataset("digits", "test").items[:60], tmp_path / "copy", WORDS.__getitem__)
    train = load_dataset(f"folder:{copy}", "train")
    card = own_model(tmp_path / "model", train, "folder:copy")
    seen = load_dataset("digits", "test").take(range(60))
    assert said(card, seen) == TRAINED
    assert said(card, load_dataset("digits", "validation")) == "zero-shot"


def test_hashes_are_no_part_of_the_revision(tmp_path: Path) -> None:
    train = load_dataset("digits", "validation")
    with_hashes = own_model(tmp_path / "a", train, "digits")
    without = own_model(tmp_path / "b", None, "digits")
    assert with_hashes.revision == without.revision
    assert with_hashes.seen_images is not None and without.seen_images is None
    first = clip.read_card(tmp_path / "a")
    (tmp_path / "a" / seen_images.SEEN_FILE).unlink()
    assert first.seen_images and clip.read_card(tmp_path / "a").revision == first.revision


# ---- rows ----------------------------------------------------------------------------------------


def test_rows_of_all_methods_and_of_finished_runs_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = load_dataset("digits", "test").items[:12]
    copy = save(items, tmp_path / "own", lambda label: f"sign {'abcdefghij'[label]}")
    options: dict[str, Any] = {
        "dataset": f"folder:{copy}",
        "model": "digits",
        "clip_model": "clip-digits",
        "method": ("diffusion", "clip"),
        "search": "exhaustive",
        "draws": 1,
        "limit": 4,
        "quiet": True,
        "check_model": False,
        "output_dir": str(tmp_path / "out"),
    }
    rows = diffcls.run_evaluation(**options)
    assert [row["supervision"] for row in rows] == [TRAINED, TRAINED]
    again = diffcls.run_evaluation(**options)
    assert again == rows
    monkeypatch.setattr(seen_images, "_sampled", {})
    assert diffcls.run_evaluation(**options) == rows


def test_damaged_hashes_are_refused_before_the_work(
    tmp_path: Path, tiny_pipeline: Callable[[str], Path]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_pipeline("v_prediction"), model)
    (model / "diffcls.json").write_text('{"name": "m", "trained_on": ["folder:x"]}')
    (model / seen_images.SEEN_FILE).write_bytes(b"diffcls seen 1: 3 of 3 images, 0 names\n")
    with pytest.raises(ModelError, match=r"damaged.*seen_images\.bin"):
        diffcls.run_evaluation(
            model=str(model), draws=1, limit=2, quiet=True, output_dir=str(tmp_path / "out")
        )
    assert not list((tmp_path / "out").rglob("records*"))
