"""What sees images for FID: features of a known scale, logits of the classes, a name for both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3

from diffcls.data.load import load_dataset
from diffcls.data.transforms import to_pixels
from diffcls.models import clip, feature_extractors
from diffcls.models.feature_extractors import WEIGHTS_OF_INCEPTION, Extractor
from diffcls.support.errors import ModelError, UsageError

TEXTS = [f"a photo of a handwritten digit {k}." for k in range(10)]


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Any]:
    """Real images (n, 3, H, W) in [−1, 1], and their classes."""
    items = load_dataset("digits").items[:100]
    pixels = [to_pixels(item.open().convert("RGB"), 32) for item in items]
    return torch.from_numpy(np.stack(pixels)), np.array([item.label for item in items])


@pytest.fixture(scope="module")
def eye() -> Extractor:
    return feature_extractors.load("clip-digits", TEXTS, range(10), "cpu")


# ---- a CLIP -------------------------------------------------------------------------------------


def test_name_has_the_width_of_the_features(eye: Extractor, digits: tuple[Tensor, Any]) -> None:
    features, logits = eye.extract(digits[0])
    assert eye.name == "clip-digits-128" and eye.width == 128
    assert features.shape == (100, 128) and logits.shape == (100, 10)
    assert features.dtype == logits.dtype == np.float32
    assert eye.revision == clip.find_card("clip-digits").revision


def test_a_feature_is_about_one(eye: Extractor, digits: tuple[Tensor, Any]) -> None:
    # KID's kernel (x·y/d + 1)³ has a scale: x·x/d = 1 is where Inception's features lie, too
    features, _ = eye.extract(digits[0])
    np.testing.assert_allclose((features**2).mean(axis=1), 1.0, rtol=1e-5)


def test_logits_are_those_of_the_classes(eye: Extractor, digits: tuple[Tensor, Any]) -> None:
    images, labels = digits
    features, logits = eye.extract(images)
    assert (logits.argmax(axis=1) == labels).mean() > 0.9
    model = clip.load("clip-digits")
    scale = model.logit_scale / 128**0.5  # the features have length √128
    classes = model.classifier(TEXTS, range(10)).numpy()
    np.testing.assert_allclose(logits, scale * features @ classes.T, rtol=1e-4, atol=1e-3)


def test_classes_of_several_texts_have_one_logit_each(digits: tuple[Tensor, Any]) -> None:
    texts = [text for one in TEXTS for text in (one, one.replace("photo", "picture"))]
    two = feature_extractors.load("clip-digits", texts, [k // 2 for k in range(20)], "cpu")
    _, logits = two.extract(digits[0])
    assert logits.shape == (100, 10)
    assert (logits.argmax(axis=1) == digits[1]).mean() > 0.9


def test_what_is_seen_does_not_depend_on_batches_or_company(
    eye: Extractor, digits: tuple[Tensor, Any]
) -> None:
    images = digits[0][:20]
    whole = eye.extract(images)
    for part in (eye.extract(images, 7), eye.extract(images, 1)):
        for one, other in zip(whole, part, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    alone, _ = eye.extract(images[4:5])
    np.testing.assert_allclose(alone[0], whole[0][4], rtol=1e-3, atol=1e-3)


def test_images_of_another_size_and_beyond_white_are_seen_alike(
    eye: Extractor, digits: tuple[Tensor, Any]
) -> None:
    images = digits[0][:10]
    larger = torch.nn.functional.interpolate(images, scale_factor=4, mode="nearest")
    one, other, clipped = (eye.extract(x)[0] for x in (images, larger, images * 1.0))
    cosines = (one * other).mean(axis=1)
    assert cosines.min() > 0.9
    beyond = torch.where(images == 1, 3.0, images)
    np.testing.assert_allclose(eye.extract(beyond)[0], clipped, rtol=1e-5, atol=1e-5)


# ---- Inception ----------------------------------------------------------------------------------


class Bytes(torch.nn.Module):
    """Stands for the published network: tells what it was made with and what it was shown."""

    made: tuple[Any, ...] = ()

    def __init__(self, name: str, layers: list[str], feature_extractor_weights_path: str) -> None:
        super().__init__()
        type(self).made = (name, layers, feature_extractor_weights_path)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert x.dtype == torch.uint8
        return x.flatten(1), x.flatten(1)[:, :2]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the published weights are looked for; there is no such file yet."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(feature_extractor_inceptionv3, "FeatureExtractorInceptionV3", Bytes)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / WEIGHTS_OF_INCEPTION


def test_inception_is_the_published_one_and_is_shown_bytes(weights: Path) -> None:
    weights.write_bytes(b"")
    feature_extractors.check_name("inception")
    eye = feature_extractors.load("inception", TEXTS, range(10), "cpu")
    assert Bytes.made == ("inception-v3-compat", ["2048", "logits_unbiased"], str(weights))
    assert (eye.name, eye.width) == ("inception-v3-compat-2048", 2048)
    # the hash in the published file's name
    assert eye.revision == "6726825d"
    grays = torch.tensor([-2.0, -1.0, 1 / 255, 1.0, 2.0]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    features, logits = eye.extract(grays)
    assert features[0, :5].tolist() == [0, 0, 128, 255, 255] and logits.shape == (1, 2)


def test_published_extractor_is_taken_where_its_weights_are(weights: Path) -> None:
    assert feature_extractors.default("clip-digits") == "clip-digits"
    weights.write_bytes(b"")
    assert feature_extractors.default("clip-digits") == "inception"


def test_inception_without_weights_says_where_they_are_looked_for(weights: Path) -> None:
    for refuse in (
        lambda: feature_extractors.check_name("inception"),
        lambda: feature_extractors.load("inception", TEXTS, range(10), "cpu"),
    ):
        with pytest.raises(ModelError, match="weights of --extractor inception not found") as told:
            refuse()
        assert str(weights) in str(told.value)


def test_inception_without_its_library_says_how_to_install_it(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ModelError, match=r'pip install "diffcls\[metrics\]"'):
        feature_extractors.check_name("inception")


# ---- names --------------------------------------------------------------------------------------


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown CLIP model: 'clip-digit'") as told:
        feature_extractors.check_name("clip-digit")
    assert "clip-digits" in str(told.value) and "PATH" in str(told.value)
    for name in clip.bundled():
        feature_extractors.check_name(name)
