"""SigLIP and SigLIP 2: open_clip's and timm's real classes, with random weights."""

from __future__ import annotations

import csv
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from helpers.small_siglip import BIAS, CONTEXT, LOG_SCALE, gemma_tokenizer, siglip_folder
from open_clip.tokenizer import canonicalize_text
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.special import expit, softmax

from diffcls import evaluate
from diffcls.classifiers.clip import build
from diffcls.data.catalog import find
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.options import EvaluationOptions
from diffcls.models import clip, clip_files, clip_names
from diffcls.support.errors import ModelError, UsageError

NAMES = ("zero", "one", "two", "three")
TEMPLATES = ("This is a photo of {}.", "an image of the number {}")


@pytest.fixture(scope="module", params=[False, True], ids=["siglip", "siglip2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return siglip_folder(tmp_path_factory.mktemp("siglips") / "mine", second=request.param)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return siglip_folder(tmp_path_factory.mktemp("siglips") / "mine")


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((200, 90), Image.Resampling.BICUBIC)


def answers(folder: Path, templates: tuple[str, ...], count: int = 3) -> np.ndarray[Any, Any]:
    options = EvaluationOptions(method=("clip",), model=str(folder), template=templates)
    built = build(options, find("digits"), PromptSet.from_templates(NAMES, templates))
    assert built.method.posterior_scale == 1.0
    items = [Item(f"test/{i}", 0, lambda i=i: picture(i)) for i in range(count)]  # type: ignore[misc]
    return np.stack([answer.scores for answer in built.method.classify(items)])


@pytest.mark.parametrize("templates", [TEMPLATES[:1], TEMPLATES])
def test_scores_are_open_clips_own_logits(folder: Path, templates: tuple[str, ...]) -> None:
    """Scale, bias, prompts, tokens and images, each from open_clip's own functions."""
    place = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(place)
    tokenize = open_clip.get_tokenizer(place)
    pixels = torch.stack([preprocess(picture(i)) for i in range(3)])
    with torch.no_grad():
        weights = open_clip.build_zero_shot_classifier(model.eval(), tokenize, NAMES, templates)
        cosines = model.encode_image(pixels, normalize=True) @ weights
        logits = (model.logit_scale.exp() * cosines + model.logit_bias).numpy()
    result = answers(folder, templates)
    assert np.ptp(logits, axis=1).min() > 0.01 and np.ptp(logits, axis=0).min() > 0.01
    scale = np.exp(LOG_SCALE)
    np.testing.assert_allclose(result / scale, logits / scale, atol=1e-6)
    loaded = clip.load(str(folder))
    assert (loaded.logit_bias, loaded.is_sigmoid) == (pytest.approx(BIAS), True)
    assert loaded.logit_scale == pytest.approx(scale)
    probabilities = loaded.probabilities(torch.from_numpy(result)).numpy()
    np.testing.assert_allclose(probabilities, expit(logits.astype(np.float64)), rtol=1e-4)


def test_clip_has_no_bias_and_its_probabilities_add_up_to_one() -> None:
    model = clip.load("clip-digits")
    assert (model.logit_bias, model.is_sigmoid) == (0.0, False)
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    assert model.probabilities(logits).numpy() == pytest.approx(softmax(logits.numpy(), axis=1))


def test_posterior_is_that_of_exactly_one_match() -> None:
    """Enumerates all 2^K outcomes of independent matches, of probability σ(z_k) each."""
    logits = np.array([-9.0, -12.9, -8.2, 1.5, -3.0])
    match = expit(logits)
    joint = {
        outcome: np.prod(np.where(outcome, match, 1 - match))
        for outcome in itertools.product([False, True], repeat=len(logits))
    }
    one = np.array([joint[tuple(row)] for row in np.eye(len(logits), dtype=bool).tolist()])
    np.testing.assert_allclose(softmax(logits), one / one.sum(), rtol=1e-9)


def test_text_is_lower_case_without_punctuation_and_padded_to_64(folder: Path) -> None:
    model = clip.load(str(folder))
    texts = ["A Photo,\n of  the 'THREE'!!", "a photo of the three", "a"]
    loud, plain, short = model.tokenize(texts)
    assert loud.shape == (CONTEXT,) and torch.equal(loud, plain)
    assert canonicalize_text(texts[0]) == "a photo of the three"
    pad = model.tokenize.tokenizer.pad_token_id
    tokens = model.tokenize.tokenizer("a").input_ids
    assert tokens[-1] == model.tokenize.tokenizer.eos_token_id == 1
    assert short.tolist() == tokens + [pad] * (CONTEXT - len(tokens))


def test_image_is_squashed_and_its_pixels_lie_in_one_and_minus_one(first: Path) -> None:
    model = clip.load(str(first))
    squashed = picture(1).resize((160, 160), Image.Resampling.BICUBIC)
    expected = np.asarray(squashed, np.float64).transpose(2, 0, 1) / 127.5 - 1
    assert model.preprocess(picture(1)).numpy() == pytest.approx(expected, abs=1e-6)


def test_texts_longer_than_the_context_are_reported(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = clip.load(str(folder))
    for number in (40, 61, 62, 63, 64, 65, 126, 127, 128, 300):
        for text in ("z ", "zx "):
            words = (text * number).strip()
            tokens = len(model.tokenize.tokenizer(words).input_ids)
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                model.classifier(["a photo", words, ""], [0, 1, 2])
            reported = "1 prompts are truncated to 64 tokens" in caplog.text
            assert reported == (tokens > CONTEXT) and (reported or not caplog.text)


@pytest.mark.parametrize("number", [74, 75, 76, 200])
def test_context_of_clip_has_two_special_tokens(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    tokenize = open_clip.SimpleTokenizer()
    texts = ["a " * number, "b"]
    clip.report_truncation(tokenize, texts, tokenize(texts))
    assert ("1 prompts are truncated to 77 tokens" in caplog.text) == (number + 2 > 77)


def test_weights_without_a_bias_are_refused(first: Path, tmp_path: Path) -> None:
    copy = siglip_folder(tmp_path / "mine")
    weights = load_file(copy / clip.CHECKPOINT)
    del weights["logit_bias"]
    save_file(weights, copy / clip.CHECKPOINT)
    with pytest.raises(ModelError, match="weights of the SigLIP model have no logit_bias"):
        clip.load(str(copy))


def test_padding_on_the_left_is_refused(tmp_path: Path) -> None:
    tokenizer = gemma_tokenizer()
    tokenizer.padding_side = "left"
    copy = siglip_folder(tmp_path / "mine", second=True, tokenizer=tokenizer)
    with pytest.raises(ModelError, match=r"pads on the left.*padding_side"):
        clip.load(str(copy))


@pytest.mark.parametrize(
    "changes",
    [
        {"init_logit_bias": "x"},
        {"init_logit_scale": []},
        {"vision_cfg": {"timm_model_name": "hf-hub:someone/model"}},
        {"vision_cfg": {"timm_model_name": "local-dir:/somewhere"}},
        {"vision_cfg": {"timm_model_name": "no_such_model", "image_size": 160}},
        {"vision_cfg": {"timm_model_name": "test_vit2", "timm_pool": 3}},
    ],
    ids=str,
)
def test_wrong_entry_of_a_siglip_folder_is_refused(
    first: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = json.loads((first / clip.CONFIG).read_text())
    copy = siglip_folder(tmp_path / "mine")
    config["model_cfg"] |= changes
    (copy / clip.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        clip.load(str(copy))
    assert "\n" not in str(caught.value)


SIGLIPS = [name for name in open_clip.list_models() if "SigLIP" in name]


@pytest.mark.parametrize("name", SIGLIPS)
def test_published_configs_are_accepted(name: str, tmp_path: Path) -> None:
    clip.check_name(f"{name}/webli")
    clip.check_name(f"hf-hub:timm/{name}")
    (tmp_path / clip.CONFIG).write_text(json.dumps({"model_cfg": open_clip.get_model_config(name)}))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GemmaTokenizer"}')
    save_file({"logit_bias": torch.zeros(1)}, tmp_path / clip.CHECKPOINT)
    assert clip_files.check_folder(tmp_path) == tmp_path / clip.CHECKPOINT
    shared = clip_files.preprocessing_of(name)
    assert shared["mean"] == shared["std"] == (0.5,) * 3 and shared["resize_mode"] == "squash"


def test_file_of_weights_gets_the_preprocessing_of_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip itself would give SigLIP images of OpenAI's mean, and crop them."""
    seen: dict[str, Any] = {}

    def create(name: str, **options: Any) -> None:
        seen.update(options)
        raise RuntimeError("seen enough")

    file = tmp_path / "weights.safetensors"
    save_file({"logit_bias": torch.zeros(1)}, file)
    monkeypatch.setattr(clip, "cached_or_reachable", lambda *_: "commit")
    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    with pytest.raises(ModelError, match="seen enough"):
        clip.load(f"ViT-B-16-SigLIP2/{file}")
    assert seen["image_mean"] == seen["image_std"] == (0.5, 0.5, 0.5)
    assert (seen["image_interpolation"], seen["image_resize_mode"]) == ("bicubic", "squash")
    assert clip_files.preprocessing_of("RN50")["mean"] == open_clip.OPENAI_DATASET_MEAN


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("diffcls.support.hub.is_offline", lambda: True)
    return tmp_path / "hub"


def test_id_of_the_hub_is_opened_from_the_cache(offline: Path) -> None:
    repository = offline / "models--someone--SigLIP"
    made = siglip_folder(repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    model = clip.load("hf-hub:someone/SigLIP")
    assert (model.card.name, model.card.revision) == ("someone/SigLIP", "0123abc")
    assert clip.find_card("hf-hub:someone/SigLIP") == model.card
    assert model.logit_bias == clip.load(str(made)).logit_bias


def test_download_is_of_one_file_of_weights_and_no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["README.md", "open_clip_config.json", "open_clip_pytorch_model.bin", "tokenizer.json"]
    chosen: list[list[str]] = []

    def fetch(_: object, choose: Any, __: str) -> Any:
        chosen.append(choose(files, None))
        raise ModelError("seen enough")

    monkeypatch.setattr("diffcls.models.hub.fetch_files", fetch)
    with pytest.raises(ModelError, match="no safetensors; pickles are never opened"):
        clip_names.hub_folder("hf-hub:a/b")
    files += ["model.safetensors", "open_clip_model.safetensors"]
    for weights in (True, False):
        with pytest.raises(ModelError, match="seen enough"):
            clip_names.hub_folder("hf-hub:a/b", weights)
    small = ["open_clip_config.json", "tokenizer.json"]
    assert chosen == [[*small, "open_clip_model.safetensors"], small]
    files.remove("open_clip_config.json")
    with pytest.raises(ModelError, match="not an open_clip model on the Hub: 'a/b'"):
        clip_names.hub_folder("hf-hub:a/b")


@pytest.mark.parametrize(
    ("name", "todo"),
    [
        ("hf-hub:timm/ViT-B-16-SigLIP", "hf download timm/ViT-B-16-SigLIP"),
        ("ViT-SO400M-14-SigLIP/webli", "hf download timm/ViT-SO400M-14-SigLIP`"),
    ],
)
def test_weights_that_are_not_cached_are_reported_at_once(
    offline: Path, name: str, todo: str
) -> None:
    with pytest.raises(ModelError, match=todo):
        clip.load(name)


def test_tokenizer_of_another_repository_is_reported_by_its_name(offline: Path) -> None:
    repository = offline / "models--timm--ViT-SO400M-14-SigLIP"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    with pytest.raises(ModelError, match=r"tokenizer.*hf download timm/ViT-B-16-SigLIP`"):
        clip.load("ViT-SO400M-14-SigLIP/webli")


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:SigLIP", "hf-hub:a/b/c", "hf-hub:a/b c"])
def test_wrong_ids_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"not an id on the Hub.*hf-hub:OWNER/NAME"):
        clip.check_name(name)


def test_templates_of_siglip() -> None:
    assert clip.ensemble("siglip") == ("This is a photo of {}.",)
    assert clip.ensemble("siglip81") == (*clip.ensemble("imagenet80"), "{}")


def test_command_writes_a_zero_shot_row(first: Path, tmp_path: Path) -> None:
    flags = ["--method", "clip", "--clip-model", str(first), "--output-dir", str(tmp_path)]
    flags += ["--ensemble", "siglip", "--limit", "5", "--quiet"]
    assert evaluate.main(flags) == 0
    (row,) = rows(tmp_path)
    assert (row["method"], row["supervision"], row["n_scored"]) == ("clip", "zero-shot", "5")
    assert row["setting"] == "templates=siglip" and 0 <= float(row["ece"]) <= 1


def test_siglip_proposes_candidates_to_the_diffusion_model(first: Path, tmp_path: Path) -> None:
    flags = ["--search", "propose", "--clip-model", str(first), "--candidates", "1"]
    flags += ["--limit", "4", "--draws", "1", "--quiet", "--no-check-model", "--batch-size", "4"]
    assert evaluate.main([*flags, "--output-dir", str(tmp_path / "race")]) == 0
    (row,) = rows(tmp_path / "race")
    assert (row["search"], row["supervision"]) == ("propose", "hybrid")
    flags = ["--method", "clip", "--clip-model", str(first), "--limit", "4", "--quiet"]
    assert evaluate.main([*flags, "--output-dir", str(tmp_path / "alone")]) == 0
    proposed, alone = (rankings(tmp_path / name) for name in ("race", "alone"))
    assert len(alone) == 4 and proposed == alone  # one candidate is the proposer's own answer


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "leaderboard.csv", newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["source"] == "measured"]


def rankings(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("runs/*/records-*.jsonl")
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {record["image_id"]: record["ranking"] for record in records}
