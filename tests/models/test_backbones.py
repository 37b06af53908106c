"""Backbones of timm: features as timm's own head receives them, from strictly loaded weights."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers.small_backbone import random_backbone, saved_backbone
from PIL import Image
from safetensors.torch import load_file, save_file

from diffcls.models import backbone_files, backbones
from diffcls.support.errors import ModelError, UsageError

DINO = "vit_small_patch14_dinov2"


def picture(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_backbone(tmp_path_factory.mktemp("backbones"), "test_vit2")


@pytest.mark.parametrize(
    "name", ["test_vit", "test_vit2", "test_vit3", "test_resnet", "test_nfnet"]
)
def test_features_are_those_before_the_head(name: str, tmp_path: Path) -> None:
    """Class token, mean, attention pooling and convolution; the file has a head of 1000 classes."""
    path = saved_backbone(tmp_path, name)
    backbone = backbones.load(f"{name}/{path}")
    model = random_backbone(name)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    pixels = torch.stack([transform(picture(i)) for i in range(2)])
    ours = torch.stack([backbone.preprocess(picture(i)) for i in range(2)])
    assert torch.equal(ours, pixels)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(pixels), pre_logits=True)
    assert expected.ndim == 2 and expected.std() > 0
    assert backbone.features(ours).numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_dinov2_gives_its_class_token(tmp_path: Path) -> None:
    """The real network of DINOv2; another image size interpolates its position embeddings."""
    side = 42
    path = saved_backbone(tmp_path, DINO, num_classes=0)
    backbone = backbones.load(f"{DINO}.lvd142m/{path}", img_size=side)
    model = random_backbone(DINO, num_classes=0)
    model.set_input_size((side, side))
    assert backbone.image_size == side
    assert backbone.card.name == "vit_small_patch14_dinov2.lvd142m"
    resized = picture().resize((side, round(side * 90 / 70)), Image.Resampling.BICUBIC)
    top = round((resized.height - side) / 2)
    pixels = np.asarray(resized.crop((0, top, side, top + side)), np.float32) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    ours = backbone.preprocess(picture())
    assert ours.numpy() == pytest.approx(pixels.transpose(2, 0, 1), abs=1e-5)
    with torch.inference_mode():
        expected = model.forward_features(ours[None])[:, 0]
    assert backbone.features(ours[None]).numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_checkpoint_that_lacks_a_weight_is_refused(file: Path, tmp_path: Path) -> None:
    """timm itself keeps random values there, without a word."""
    weights = load_file(file)
    del weights["blocks.3.attn.proj.weight"]
    path = tmp_path / "cut.safetensors"
    save_file(weights, path)
    with pytest.raises(ModelError, match=r"Missing key.*blocks\.3\.attn\.proj\.weight"):
        backbones.load(f"test_vit2/{path}")
    config = {"file": str(path)}
    assert timm.create_model("test_vit2", True, pretrained_cfg_overlay=config, num_classes=0)


def test_weights_of_another_architecture_are_refused(file: Path) -> None:
    for other in ("test_vit", "test_resnet"):
        with pytest.raises(ModelError, match="cannot open the backbone") as caught:
            backbones.load(f"{other}/{file}")
        assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(file: Path, tmp_path: Path) -> None:
    weights = load_file(file)
    weights["norm.bias" if "norm.bias" in weights else "fc_norm.bias"][3] = float("nan")
    path = tmp_path / "nan.safetensors"
    save_file(weights, path)
    with pytest.raises(ModelError, match="not finite"):
        backbones.load(f"test_vit2/{path}")


def test_features_that_are_not_pooled_are_refused(tmp_path: Path) -> None:
    folder = saved_folder(tmp_path / "maps", "test_resnet", model_args={"global_pool": ""})
    backbone = backbones.load(str(folder))
    with pytest.raises(ModelError, match="features of the backbone are not pooled"):
        backbone.features(backbone.preprocess(picture())[None])


def saved_folder(folder: Path, name: str, **entries: Any) -> Path:
    """As timm itself writes it, and with other entries."""
    timm.models.save_for_hf(random_backbone(name), folder, safe_serialization=True)
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stored, **entries}))
    return folder


def test_folder_of_timm_is_opened_as_it_says(tmp_path: Path, file: Path) -> None:
    folder = saved_folder(tmp_path / "mine", "test_vit2")
    stored = json.loads((folder / "config.json").read_text())
    stored["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.5] * 3, "crop_pct": 0.5}
    stored["pretrained_cfg"] |= {"url": "nowhere", "hf_hub_id": "someone/else", "file": "x.bin"}
    (folder / "config.json").write_text(json.dumps(stored))
    backbone = backbones.load(str(folder))
    assert (backbone.card.name, list(backbone.config["mean"])) == ("mine", [0.1, 0.2, 0.3])
    pixels = backbone.preprocess(picture())
    larger = picture().resize((320, round(320 * 90 / 70)), Image.Resampling.BICUBIC)
    top = round((larger.height - 160) / 2)
    expected = np.asarray(larger.crop((80, top, 240, top + 160)), np.float32) / 255
    expected = (expected - [0.1, 0.2, 0.3]) / 0.5
    assert pixels.numpy() == pytest.approx(expected.transpose(2, 0, 1), abs=1e-5)
    other = backbones.load(f"test_vit2/{file}")
    with torch.inference_mode():
        assert torch.equal(backbone.features(pixels[None]), other.features(pixels[None]))
    before = backbone.card.revision
    stored["pretrained_cfg"]["crop_pct"] = 1.0
    (folder / "config.json").write_text(json.dumps(stored))
    assert backbones.load(str(folder)).card.revision != before


@pytest.mark.parametrize(
    "entries",
    [
        {"architecture": "no_such"},
        {"architecture": "hf-hub:someone/model"},
        {"architecture": None},
        {"model_args": {"checkpoint_path": "weights.bin"}},
        {"model_args": {"pretrained_cfg_overlay": {"file": "weights.bin"}}},
        {"model_args": {"depth": 10**9}},
        {"model_args": {"no_such": 1}},
        {"model_args": []},
        {"pretrained_cfg": 3},
        {"pretrained_cfg": {"mean": [0.5]}},
        {"pretrained_cfg": {"std": [0, 0, 0]}},
        {"pretrained_cfg": {"input_size": [3, 10**6, 10**6]}},
        {"pretrained_cfg": {"input_size": [1, 32, 32]}},
        {"pretrained_cfg": {"crop_pct": "x"}},
        {"pretrained_cfg": {"crop_pct": 0}},
        {"pretrained_cfg": {"interpolation": "x"}},
        {"pretrained_cfg": {"crop_mode": 3}},
        {"pretrained_cfg": {"fixed_input_size": "yes"}},
        {"auto_map": {"AutoModel": "code.Model"}},
    ],
    ids=str,
)
def test_wrong_entry_of_a_folder_is_refused(entries: dict[str, Any], tmp_path: Path) -> None:
    folder = saved_folder(tmp_path / "mine", "test_vit", **entries)
    with pytest.raises(ModelError) as caught:
        backbones.load(str(folder))
    assert "\n" not in str(caught.value)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    folder = saved_folder(tmp_path / "mine", "test_vit")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no file of weights.*pickles are never opened"):
        backbones.load(str(folder))
    with pytest.raises(UsageError, match=r"not a \.safetensors file"):
        backbones.load(f"test_vit/{folder / 'pytorch_model.bin'}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_smal_patch14_dinov2.lvd142m", "did you mean 'vit_small_patch14_dinov2.lvd142m'"),
        ("vit_small_patch14_dinov2.lvd142", "weights of .*did you mean 'lvd142m'"),
        ("vit_small_patch14_dinov2/none.safetensors", "no such file of weights"),
        ("resnet999", "unknown backbone.*ARCHITECTURE.TAG such as"),
        ("timm/resnet50.a1_in1k", "did you mean 'hf-hub:timm/resnet50.a1_in1k'"),
        ("hf-hub:one", "not an id on the Hub"),
        ("test_vit4", "unknown weights of test_vit4.*FILE.safetensors"),
    ],
)
def test_unknown_names_get_suggestions(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        backbone_files.check_name(name)


def test_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a timm folder"):
        backbone_files.check_name(str(tmp_path))


def test_missing_timm_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "timm":
            raise ImportError("No module named 'timm'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=r'pip install "diffcls\[features\]"') as caught:
        backbone_files.check_name(DINO)
    assert "\n" not in str(caught.value)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("diffcls.support.hub.is_offline", lambda: True)
    return tmp_path / "hub"


def cached(offline: Path, repository: str) -> Path:
    folder = offline / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    return folder / "snapshots" / "abc"


@pytest.mark.parametrize("name", [f"{DINO}.lvd142m", DINO, f"hf-hub:timm/{DINO}.lvd142m"])
def test_weights_that_are_not_cached_are_refused_in_one_line(name: str, offline: Path) -> None:
    with pytest.raises(ModelError, match=f"hf download timm/{DINO}.lvd142m`") as caught:
        backbones.load(name)
    assert "\n" not in str(caught.value)


def test_weights_of_a_tag_and_of_an_id_are_read_from_the_cache(offline: Path) -> None:
    saved_folder(cached(offline, "timm/test_vit2.r160_in1k"), "test_vit2")
    by_tag, short = (backbones.load(name) for name in ("test_vit2.r160_in1k", "test_vit2"))
    by_id = backbones.load("hf-hub:timm/test_vit2.r160_in1k")
    assert by_tag.card == short.card and by_tag.card.name == "test_vit2.r160_in1k"
    assert by_id.card.name == "timm/test_vit2.r160_in1k"
    pixels = by_tag.preprocess(picture())[None]
    assert torch.equal(by_tag.features(pixels), by_id.features(pixels))


def test_download_is_of_one_file_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["README.md", "config.json", "pytorch_model.bin"]
    chosen: list[list[str]] = []

    def fetch(_: object, choose: Any, __: str) -> Any:
        chosen.append(choose(files, None))
        raise ModelError("seen enough")

    monkeypatch.setattr("diffcls.models.hub.fetch_files", fetch)
    for name in (DINO, f"hf-hub:timm/{DINO}"):
        with pytest.raises(ModelError, match="pickles are never opened"):
            backbone_files.find_source(name)
    files.append("model.safetensors")
    for name in (DINO, f"hf-hub:timm/{DINO}"):
        with pytest.raises(ModelError, match="seen enough"):
            backbone_files.find_source(name)
    assert chosen == [["model.safetensors"], ["config.json", "model.safetensors"]]
