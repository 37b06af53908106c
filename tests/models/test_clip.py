"""CLIP as a method: scores equal open_clip's logits, whatever other images are in the batch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from helpers.small_clip import SMALL
from PIL import Image

import diffcls
from diffcls import evaluate
from diffcls.classifiers.clip import build
from diffcls.classifiers.one_pass import BatchMethod, Pixels
from diffcls.data.catalog import find
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.training_captions import caption
from diffcls.evaluation.options import EvaluationOptions
from diffcls.models import clip, clip_names
from diffcls.models.small_stable_diffusion import TinyConfig, build_tokenizer
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.errors import ModelError, UsageError
from diffcls.training import clip as clip_trainer

NAMES = ("zero", "one", "two", "three", "four")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights, in the layout of the train command."""
    made = tmp_path_factory.mktemp("clips") / "clip-random"
    tokenizer = build_tokenizer(
        [caption("digits", i % 10, 0, i) for i in range(200)], TinyConfig(vocabulary=600)
    )
    config = clip_trainer.model_config(SMALL, len(tokenizer))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = clip_trainer.build(config)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
                torch.nn.init.normal_(module.running_mean, 0.0, 0.1)
                torch.nn.init.ones_(module.weight)  # open_clip initialises some of them to zero
    clip_trainer.save(model, tokenizer, config, made)
    return made


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def items(count: int) -> list[Item]:
    return [Item(f"test/{i}", i % len(NAMES), lambda i=i: picture(i)) for i in range(count)]  # type: ignore[misc]


def answers(
    folder: Path, templates: tuple[str, ...], given: list[Item], **wishes: Any
) -> list[ClassScores]:
    options = EvaluationOptions(method=("clip",), model=str(folder), template=templates, **wishes)
    prompts = PromptSet.from_templates(NAMES, templates)
    return list(build(options, find("digits"), prompts).method.classify(given))


def test_scores_are_open_clips_own_logits(folder: Path) -> None:
    place = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(place)
    model.eval()
    pixels = torch.stack([preprocess(picture(i)) for i in range(6)])
    for templates in (("a photo of a {}.",), ("a photo of a {}.", "the {}", "one {} in a row")):
        with torch.no_grad():
            weights = open_clip.build_zero_shot_classifier(
                model, open_clip.get_tokenizer(place), NAMES, templates
            )
            logits = model.logit_scale.exp() * model.encode_image(pixels, normalize=True) @ weights
        result = np.stack([answer.scores for answer in answers(folder, templates, items(6))])
        assert np.ptp(logits.numpy(), axis=1).min() > 1e-3  # the logits differ between classes
        assert result == pytest.approx(logits.numpy(), abs=1e-5)


def test_batch_composition_and_order_change_no_bit(folder: Path) -> None:
    template = ("a photo of a {}.",)
    together = {a.image_id: a.scores for a in answers(folder, template, items(70))}
    backwards = {a.image_id: a.scores for a in answers(folder, template, items(70)[::-1])}
    (alone,) = answers(folder, template, items(70)[33:34])
    assert len(together) == 70
    assert all(np.array_equal(together[i], backwards[i]) for i in together)
    assert np.array_equal(alone.scores, together["test/33"])


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 0.06), ("float16", 0.01)])
def test_half_precision_agrees_up_to_rounding(folder: Path, dtype: str, error: float) -> None:
    whole = np.stack([a.scores for a in answers(folder, ("{}",), items(3))])
    half = np.stack([a.scores for a in answers(folder, ("{}",), items(3), dtype=dtype)])
    assert half == pytest.approx(whole, abs=error) and not np.array_equal(half, whole)


def test_unreadable_image_fails_alone(folder: Path) -> None:
    def broken() -> Image.Image:
        raise OSError("cut off")

    given = [*items(2), Item("test/bad", 0, broken)]
    result = {a.image_id: a for a in answers(folder, ("{}",), given)}
    assert result["test/bad"].error == "cut off" and not len(result["test/bad"].scores)
    assert result["test/0"].error is None and result["test/1"].error is None


def test_image_with_candidates_is_ranked_among_them(folder: Path) -> None:
    (whole,) = answers(folder, ("{}",), items(1))
    item = Item("test/0", 1, lambda: picture(0), candidates=(3, 1))
    (part,) = answers(folder, ("{}",), [item])
    assert np.array_equal(part.scores, whole.scores[[3, 1]])
    assert part.ranking.tolist() == np.argsort(-part.scores).tolist()


def test_score_that_is_not_finite_fails_alone() -> None:
    def score(pixels: torch.Tensor, _: object) -> torch.Tensor:
        return pixels.mean(dim=(2, 3)).log()  # of a negative mean there is none

    def read(item: Item) -> Pixels:
        return np.full((3, 2, 2), 0.5 - item.label, dtype=np.float32)

    method = BatchMethod(read, lambda: score, batch_size=4)
    good, bad = method.classify(items(2))
    assert good.error is None and good.scores == pytest.approx([np.log(0.5)] * 3)
    assert "test/1 is not finite" in str(bad.error) and not len(bad.scores)


@pytest.mark.parametrize(("name", "count"), [("imagenet80", 80), ("imagenet7", 7)])
def test_ensembles_are_the_published_ones(name: str, count: int) -> None:
    theirs = {80: open_clip.OPENAI_IMAGENET_TEMPLATES, 7: open_clip.SIMPLE_IMAGENET_TEMPLATES}
    texts = [template.replace("{}", "tench") for template in clip.ensemble(name)]
    assert texts == [template("tench") for template in theirs[count]] and len(texts) == count


def test_unknown_ensemble_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'imagenet80'"):
        clip.ensemble("imagenet8")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RN51/openai", "unknown CLIP model.*RN50/openai"),
        ("timm/ViT-B-16-SigLIP", "did you mean 'hf-hub:timm/ViT-B-16-SigLIP'"),
        ("RN50", "unknown weights of RN50.*openai"),
        ("RN50/opnai", "unknown weights of RN50.*did you mean 'openai'"),
        ("ViT-H-14/laion2b", "unknown weights of ViT-H-14.*laion2b_s32b_b79k"),
    ],
)
def test_unknown_names_get_suggestions(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        clip.check_name(name)


def test_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"open_clip_config\.json"):
        clip.check_name(str(tmp_path))


def test_unreachable_weights_are_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    # open_clip itself would build the network first, and then retry for most of a minute
    monkeypatch.setattr(open_clip, "create_model_and_transforms", lambda *_, **__: pytest.fail())
    with pytest.raises(ModelError, match="hf download laion/CLIP-ViT-H-14-laion2B-s32B-b79K"):
        clip.load("ViT-H-14/laion2b_s32b_b79k")


@pytest.mark.parametrize(
    ("architecture", "tag", "quick"),
    [
        ("RN50", "openai", True),
        ("RN50", "yfcc15m", True),
        ("ViT-B-32", "openai", True),
        ("ViT-B-32", "laion2b_s34b_b79k", False),
    ],
)
def test_activation_is_that_of_the_weights(
    architecture: str, tag: str, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def create(name: str, **options: Any) -> None:
        seen.update(options, name=name)
        raise RuntimeError("seen enough")

    monkeypatch.setattr(clip_names, "_revision", lambda *_: "commit")
    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    with pytest.raises(ModelError, match="seen enough"):
        clip.load(f"{architecture}/{tag}")
    assert (seen["name"], seen["pretrained"]) == (architecture, tag)
    assert seen["force_quick_gelu"] is quick


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        ([], "a photo of a handwritten digit {}."),
        (["--template", "a {}", "the {}"], "a {} | the {}"),
        (["--ensemble", "imagenet7"], "imagenet7"),
    ],
)
def test_command_writes_its_row(
    folder: Path, tmp_path: Path, words: list[str], setting: str
) -> None:
    flags = ["--method", "clip", "--model", str(folder), "--output-dir", str(tmp_path), *words]
    assert evaluate.main([*flags, "--limit", "5", "--quiet"]) == 0
    with open(tmp_path / "leaderboard.csv", newline="", encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["source"] == "measured"]
    assert (row["method"], row["search"], row["supervision"]) == ("clip", "", "zero-shot")
    assert row["setting"] == f"templates={setting}"
    assert row["evaluations_per_image"] == "0.0" and row["n_scored"] == "5"


def test_image_size_is_refused(folder: Path, tmp_path: Path) -> None:
    flags = {"method": "clip", "model": str(folder), "output_dir": str(tmp_path / "out")}
    with pytest.raises(UsageError, match="--img-size has no effect here"):
        diffcls.run_evaluation(**flags, img_size=64)
    assert not (tmp_path / "out").exists()
