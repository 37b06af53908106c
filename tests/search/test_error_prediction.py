"""Error prediction: agreement with PyTorch's layers and with scikit-learn's components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from diffcls.classifiers.screen_regression import RANK, _arrays, _perceptron, _Predictor
from diffcls.search.error_prediction import ErrorPredictor, FeatureProjection, perceptron


def floats(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_perceptron_equals_the_layers_of_pytorch() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(7, 12), nn.GELU(), nn.Linear(12, 5))
    arrays = {
        "x_w1": layers[0].weight.detach().numpy(),
        "x_b1": layers[0].bias.detach().numpy(),
        "x_w2": layers[2].weight.detach().numpy(),
        "x_b2": layers[2].bias.detach().numpy(),
    }
    inputs = 3 * floats((20, 7))
    expected = layers(torch.from_numpy(inputs)).detach().numpy()
    result = perceptron(arrays, "x", inputs)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("images", "features"), [(30, 200), (60, 8)])
def test_projection_is_on_whitened_principal_components_of_standardised_features(
    images: int, features: int
) -> None:
    # features of unequal scale and mean, with some directions stronger than others
    rng = np.random.default_rng(1)
    made = (rng.normal(size=(images, 5)) * [9, 6, 4, 2, 1]) @ rng.normal(size=(5, features))
    made = (made + 0.1 * rng.normal(size=made.shape)) * rng.uniform(0.5, 50, features) + 7
    data: np.ndarray = made.astype(np.float32)
    project = FeatureProjection.of(data, 4)
    standard = (data - data.mean(axis=0)) / (data.std(axis=0) + 1e-4)
    theirs = PCA(4, whiten=True, svd_solver="full").fit(standard)
    # theirs have unit variance with n − 1 images in the denominator
    expected = theirs.transform(standard) * np.sqrt(images / (images - 1))
    result = project(data)
    assert result.var(axis=0) == pytest.approx(1, abs=1e-3)
    signs = np.sign((result * expected).sum(axis=0))
    np.testing.assert_allclose(result * signs, expected, atol=5e-3)
    # an image that was not in the fit
    new = data[:3] * 0.5 + data[3:6] * 0.7
    in_units = (new - data.mean(axis=0)) / (data.std(axis=0) + 1e-4)
    of_new = theirs.transform(in_units) * np.sqrt(images / (images - 1))
    np.testing.assert_allclose(project(new) * signs, of_new, atol=5e-3, rtol=1e-3)


def test_projection_has_no_more_components_than_the_images_span() -> None:
    data = floats((6, 40))
    assert FeatureProjection.of(data, 300)(data).shape == (6, 5)
    constant = np.repeat(floats((1, 40)), 3, axis=0)
    constant[0] += 1  # two different images
    assert FeatureProjection.of(constant, 300)(constant).shape == (3, 1)


def test_prediction_is_the_mean_over_draws_of_what_was_trained() -> None:
    torch.manual_seed(1)
    images, features, classes, components, draws = 12, 30, 9, 4, 2
    data, of_classes = floats((images, features)), floats((classes, components), 2)
    project = FeatureProjection.of(data, 6)
    model = _Predictor(6, components, draws).eval()
    with torch.no_grad():
        model.beta.copy_(torch.tensor([0.2, 0.7]))
    unit, at_mean = np.array([0.5, 3.0], np.float32), floats((images, draws), 3)
    first_order = at_mean[:, :, None] + floats((images, draws, classes), 4)
    slopes = (first_order - at_mean[:, :, None]) / unit[:, None]
    expected = model(
        torch.from_numpy(project(data)), torch.from_numpy(of_classes), torch.from_numpy(slopes)
    )
    arrays = {
        "mean": project.mean,
        "scale": project.scale,
        "axes": project.axes,
        "unit": unit,
        "beta": model.beta.detach().numpy(),
        "offset_w": model.offset.weight.detach().numpy(),
        "offset_b": model.offset.bias.detach().numpy(),
        **_arrays("image", model.image),
        **_arrays("class", model.classes),
    }
    predictor = ErrorPredictor(arrays, of_classes)
    assert predictor.embedding.shape == (classes, RANK)
    for i in range(images):
        result = predictor.errors(data[i], first_order[i], at_mean[i])
        assert result.shape == (classes,)
        np.testing.assert_allclose(result, expected[i].mean(dim=0).detach(), rtol=1e-4, atol=1e-5)


def test_dropout_is_part_of_training_alone() -> None:
    torch.manual_seed(2)
    layers = _perceptron(6, 3, 0.5, 0.5).eval()
    inputs = floats((4, 6), 5)
    expected = layers(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(
        perceptron(_arrays("x", layers), "x", inputs), expected, rtol=1e-5, atol=1e-6
    )
