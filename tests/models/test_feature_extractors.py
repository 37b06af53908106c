"""Feature extractors for FID, KID and IS: scale of features, logits of classes, names."""

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
def extractor() -> Extractor:
    return feature_extractors.load("clip-digits", TEXTS, range(10), "cpu")


# ---- CLIP -------------------------------------------------------------------------------------


def test_name_has_the_width_of_the_features(
    extractor: Extractor, digits: tuple[Tensor, Any]
) -> None:
    features, logits = extractor.extract(digits[0])
    assert extractor.name == "clip-digits-128" and extractor.width == 128
    assert features.shape == (100, 128) and logits.shape == (100, 10)
    assert features.dtype == logits.dtype == np.float32
    assert extractor.revision == clip.find_card("clip-digits").revision


def test_features_have_unit_mean_square(extractor: Extractor, digits: tuple[Tensor, Any]) -> None:
    # KID's kernel (x·y/d + 1)³ depends on the scale: x·x/d is about 1 for Inception too
    features, _ = extractor.extract(digits[0])
    np.testing.assert_allclose((features**2).mean(axis=1), 1.0, rtol=1e-5)


def test_logits_are_those_of_the_classes(extractor: Extractor, digits: tuple[Tensor, Any]) -> None:
    images, labels = digits
    features, logits = extractor.extract(images)
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


def test_features_do_not_depend_on_the_batch(
    extractor: Extractor, digits: tuple[Tensor, Any]
) -> None:
    images = digits[0][:20]
    whole = extractor.extract(images)
    for part in (extractor.extract(images, 7), extractor.extract(images, 1)):
        for one, other in zip(whole, part, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    alone, _ = extractor.extract(images[4:5])
    np.testing.assert_allclose(alone[0], whole[0][4], rtol=1e-3, atol=1e-3)


def test_images_are_resized_and_clipped(extractor: Extractor, digits: tuple[Tensor, Any]) -> None:
    images = digits[0][:10]
    larger = torch.nn.functional.interpolate(images, scale_factor=4, mode="nearest")
    one, other, clipped = (extractor.extract(x)[0] for x in (images, larger, images * 1.0))
    cosines = (one * other).mean(axis=1)
    assert cosines.min() > 0.9
    beyond = torch.where(images == 1, 3.0, images)
    np.testing.assert_allclose(extractor.extract(beyond)[0], clipped, rtol=1e-5, atol=1e-5)


# ---- Inception ----------------------------------------------------------------------------------


class Bytes(torch.nn.Module):
    """Stand-in for the published network, which records its arguments and inputs."""

    made: tuple[Any, ...] = ()

    def __init__(self, name: str, layers: list[str], feature_extractor_weights_path: str) -> None:
        super().__init__()
        type(self).made = (name, layers, feature_extractor_weights_path)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert x.dtype == torch.uint8
        return x.flatten(1), x.flatten(1)[:, :2]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path of the published weights, without a file."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(feature_extractor_inceptionv3, "FeatureExtractorInceptionV3", Bytes)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / WEIGHTS_OF_INCEPTION


def test_inception_has_the_published_weights_and_receives_bytes(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.write_bytes(b"")
    monkeypatch.setattr(feature_extractors, "hash_file", lambda _: "6726825d0af5f729")
    feature_extractors.check_name("inception")
    extractor = feature_extractors.load("inception", TEXTS, range(10), "cpu")
    assert Bytes.made == ("inception-v3-compat", ["2048", "logits_unbiased"], str(weights))
    assert (extractor.name, extractor.width) == ("inception-v3-compat-2048", 2048)
    # the hash in the published file's name
    assert extractor.revision == "6726825d"
    grays = torch.tensor([-2.0, -1.0, 1 / 255, 1.0, 2.0]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    features, logits = extractor.extract(grays)
    assert features[0, :5].tolist() == [0, 0, 128, 255, 255] and logits.shape == (1, 2)


def test_weights_of_inception_are_opened_only_if_they_are_the_published_file(
    weights: Path,
) -> None:
    weights.write_bytes(b"a pickle, which torch-fidelity would run")
    Bytes.made = ()
    with pytest.raises(ModelError, match="not the published file"):
        feature_extractors.load("inception", TEXTS, range(10), "cpu")
    assert Bytes.made == ()


def test_inception_is_the_default_if_its_weights_are_present(weights: Path) -> None:
    assert feature_extractors.default("clip-digits") == "clip-digits"
    weights.write_bytes(b"")
    assert feature_extractors.default("clip-digits") == "inception"


def test_error_for_missing_weights_names_their_path(weights: Path) -> None:
    for refuse in (
        lambda: feature_extractors.check_name("inception"),
        lambda: feature_extractors.load("inception", TEXTS, range(10), "cpu"),
    ):
        with pytest.raises(
            ModelError, match="weights of --extractor inception not found"
        ) as raised:
            refuse()
        assert str(weights) in str(raised.value)


def test_error_for_a_missing_library_says_how_to_install_it(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ModelError, match=r'pip install "diffcls\[metrics\]"'):
        feature_extractors.check_name("inception")


# ---- names --------------------------------------------------------------------------------------


def test_unknown_name_is_refused_with_the_known_names() -> None:
    with pytest.raises(UsageError, match="unknown CLIP model: 'clip-digit'") as raised:
        feature_extractors.check_name("clip-digit")
    assert "clip-digits" in str(raised.value) and "PATH" in str(raised.value)
    for name in clip.bundled():
        feature_extractors.check_name(name)
