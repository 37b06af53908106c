"""Bundled models: they agree with their cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import diffcls
from diffcls.data.load import load_dataset
from diffcls.diffusion.timestep_allocation import EVEN, read_allocation
from diffcls.models import clip, control_files, loading, noisy_classifier
from diffcls.models.denoiser import ModelCard
from diffcls.training.recipe_table import RECIPES

FOLDER = loading.WEIGHTS / "digits"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / loading.CARD).read_text(encoding="utf-8"))
    return loaded


def accuracy(tmp_path: Path, **options: Any) -> float:
    row = diffcls.run_evaluation(output_dir=str(tmp_path), quiet=True, **options)[0]
    assert row["supervision"] == "model trained on this data set"
    return float(row["accuracy"])


TEXT_MODELS = [name for name in loading.bundled() if name in RECIPES]
EDITORS = [name for name in loading.bundled() if name.endswith("-instruct")]
PIXEL_MODELS = [name for name in loading.bundled() if name not in {*RECIPES, *EDITORS}]


@pytest.mark.parametrize("name", loading.bundled())
def test_weights_are_small_and_in_half_precision(name: str) -> None:
    folder = loading.WEIGHTS / name
    files = list(folder.rglob("*.safetensors"))
    parts = {"unet"} if name in PIXEL_MODELS else {"text_encoder", "unet", "vae"}
    assert {file.parent.name for file in files} == parts
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 16 * MEGABYTE
    stored = json.loads((folder / loading.CARD).read_text(encoding="utf-8"))
    dataset = name.partition("-pixels")[0].removesuffix("-instruct")
    trained_on = list(RECIPES[dataset].teaches or [dataset])
    assert stored["name"] == name and stored["trained_on"] == trained_on and stored["hours"] > 0
    what_it_is = "classifies none" if name in EDITORS else "not zero-shot"
    assert what_it_is in (folder / "README.md").read_text(encoding="utf-8")
    from safetensors.torch import load_file

    for file in files:
        dtypes = {t.dtype for t in load_file(file).values() if t.is_floating_point()}
        assert dtypes == {torch.float16}, file


@pytest.mark.parametrize("name", control_files.bundled())
def test_controlnets_are_small_in_half_precision_and_of_the_model_on_their_card(name: str) -> None:
    from safetensors.torch import load_file

    files = control_files.find(name)
    weights = files.path / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 2 * MEGABYTE
    assert {t.dtype for t in load_file(weights).values()} == {torch.float16}
    stored = json.loads((files.path / loading.CARD).read_text(encoding="utf-8"))
    base = loading.read_card(loading.find(files.trained_with))
    assert stored["trained_with_revision"] == base.revision
    assert files.trained_on == base.trained_on
    assert control_files.default_for(files.trained_with) == name
    assert "not zero-shot" in (files.path / "README.md").read_text(encoding="utf-8")
    last = stored["curve"][-1]
    assert last["validation_loss"] < 0.75 * last["plain_validation_loss"]


@pytest.mark.parametrize("name", clip.bundled())
def test_small_clips_are_small_and_trained_on_the_diffusion_models_data(name: str) -> None:
    from safetensors.torch import load_file

    folder, dataset = loading.WEIGHTS / name, name.removeprefix("clip-")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size < 16 * MEGABYTE
    tensors = load_file(folder / clip.CHECKPOINT).values()
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float16}
    stored, theirs = (
        json.loads((loading.WEIGHTS / of / loading.CARD).read_text(encoding="utf-8"))
        for of in (name, dataset)
    )
    assert stored["trained_on"] == theirs["trained_on"]
    assert stored["data"] == theirs["data"]
    # training data of both are comparable by the number of images
    assert stored["recipe"]["images"] > 0 and stored["hours"] > 0


def test_no_bundled_model_was_trained_on_the_held_out_set() -> None:
    for path in loading.WEIGHTS.glob(f"*/{loading.CARD}"):
        assert "scenes/held-out" not in json.loads(path.read_text(encoding="utf-8"))["trained_on"]


@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_pixel_models_have_class_names_and_a_matching_noisy_classifier(name: str) -> None:
    dataset, _, kind = name.partition("-pixels")
    model = loading.load(name)
    if kind == "-unconditional":
        assert not model.labels
        assert model.card.trained_on == (dataset,)
        assert model.sample_shape == loading.load(f"{dataset}-pixels").sample_shape
        return
    assert model.labels == tuple(load_dataset("digits").class_names) or dataset != "digits"
    assert model.card.trained_on == (dataset,)
    guide = noisy_classifier.load(f"noisy-{dataset}")
    assert guide.trained_with == name
    assert guide.class_names == model.labels
    assert guide.shape == model.sample_shape
    size = (loading.WEIGHTS / f"noisy-{dataset}" / noisy_classifier.CHECKPOINT).stat().st_size
    assert size < 16 * MEGABYTE


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_default_allocation_is_that_of_the_card(name: str) -> None:
    stored = json.loads((loading.WEIGHTS / name / loading.CARD).read_text(encoding="utf-8"))
    assert loading.read_card(loading.find(name)).allocation == read_allocation(stored["allocation"])


def test_each_allocation_has_its_own_fingerprint_and_even_adds_nothing_to_it(
    tmp_path: Path,
) -> None:
    def spec(**changes: Any) -> dict[str, Any]:
        (row,) = diffcls.run_evaluation(
            model="digits", limit=2, draws=2, quiet=True, output_dir=str(tmp_path), **changes
        )
        header = tmp_path / "runs" / row["fingerprint"] / "run.json"
        run: dict[str, Any] = json.loads(header.read_text(encoding="utf-8"))
        return {**run["spec"], "fingerprint": run["fingerprint"]}

    default, even = spec(), spec(allocation=EVEN)
    assert spec(allocation="cifar10") == default  # the model's own
    assert default["allocation"] == read_allocation("cifar10")
    assert "allocation" not in even
    prints = {made["fingerprint"] for made in (default, even, spec(allocation="fashion_mnist"))}
    assert len(prints) == 3


def test_card_states_data_recipe_seed_hours_and_that_it_is_not_zero_shot(
    card: dict[str, Any],
) -> None:
    data = load_dataset("digits", "train")
    assert card["trained_on"] == ["digits"]
    data_of_card = {"split": "train", "images": len(data), "revision": data.revision}
    assert data_of_card.items() <= card["data"].items()
    assert card["data"]["licence"] == "cc-by-4.0" and "UCI" in card["data"]["credit"]
    assert card["temperature"] > 0
    assert card["hours"] > 0
    assert card["seed"] == 0
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "Trained on the training split of digits" in readme
    assert "not zero-shot" in readme


def test_shape_is_stable_diffusions_in_miniature() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    denoiser = loading.load("digits")
    assert denoiser.image_size == 32
    channels, height, width = denoiser.sample_shape
    assert 4 <= channels <= 16
    assert (height, width) == (8, 8)  # a factor of 4
    cond = denoiser.encode_prompts(["a 3"])
    with FlopCounterMode(display=False) as flops:
        denoiser.predict(torch.zeros(1, channels, 8, 8), torch.zeros(1, dtype=torch.long), cond)
    # a multiply-add counts as two
    assert flops.get_total_flops() <= 130e6


def test_plain_diffusers_loads_and_samples_it_without_a_dtype() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER)
    pipeline.set_progress_bar_config(disable=True)
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {part.dtype for part in parts} == {torch.float32}
    images = pipeline(
        ["a photo of a zero.", "a photo of a one."],
        num_inference_steps=20,
        guidance_scale=2.0,
        generator=[torch.Generator("cpu").manual_seed(k) for k in range(2)],
    ).images
    classifier = diffcls.ZeroShotImageClassifier.from_pretrained("digits")
    answers = classifier(images, candidate_labels=["zero", "one"])
    assert [answer[0]["label"] for answer in answers] == ["zero", "one"]


def test_held_out_images_are_recognised(tmp_path: Path) -> None:
    assert accuracy(tmp_path, limit=50) >= 0.98


def test_text_encoder_distinguishes_words() -> None:
    classifier = diffcls.ZeroShotImageClassifier.from_pretrained("digits")
    items = load_dataset("digits", "test").items[:12]
    images = [item.open() for item in items]
    for labels in ("zero one two three four five six seven eight nine".split(), list("0123456789")):
        answers = classifier(images, candidate_labels=labels)
        right = sum(
            answer[0]["label"] == labels[item.label]
            for answer, item in zip(answers, items, strict=True)
        )
        assert right >= 11


@pytest.mark.slow
@pytest.mark.parametrize(
    "template", ["a photo of a {}.", "somebody's pencil sketch of the {} on brown paper"]
)
def test_another_template_loses_at_most_two_points(tmp_path: Path, template: str) -> None:
    usual = accuracy(tmp_path)
    assert usual >= 0.98
    assert accuracy(tmp_path, template=(template,)) >= usual - 0.02


def test_training_data_sets_of_a_model_are_not_called_zero_shot() -> None:
    seen = ModelCard("m", "1", trained_on=("scenes/attributes", "scenes:*"))
    assert seen.has_seen("scenes:1000") and seen.has_seen("scenes/attributes")
    assert not seen.has_seen("scenes/held-out") and not seen.has_seen("scenes")
    assert loading.read_card(loading.find("scenes")).has_seen("scenes:300")
    assert not loading.read_card(loading.find("scenes")).has_seen("scenes/held-out")
