"""Components of class embeddings: whitened over the fit's classes, and the same for new ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from diffcls.classifiers import class_components as module
from diffcls.classifiers.class_components import class_components
from diffcls.data.prompts import PromptSet
from diffcls.models.denoiser import Conditioning
from diffcls.support.errors import UsageError


def encoded(
    classes: int, seed: int, shape: tuple[int, ...] = (5, 8)
) -> tuple[PromptSet, Conditioning]:
    """Classes whose embeddings vary strongly in a few directions."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(99).normal(size=(6, int(np.prod(shape))))
    flat = (rng.normal(size=(classes, 6)) * [8, 5, 3, 2, 1, 0.5]) @ basis + 4
    prompts = PromptSet.from_templates([f"{seed} {k}" for k in range(classes)], ["{}"])
    text = torch.tensor(flat, dtype=torch.float32).reshape(classes, *shape)
    mask = torch.ones(classes, shape[0], dtype=torch.int64)
    return prompts, Conditioning({"text": text, "mask": mask})


def test_components_of_the_fit_are_uncorrelated_and_of_unit_variance() -> None:
    components = class_components([encoded(30, 0)])
    assert components.shape == (30, 6)
    assert components.mean(axis=0) == pytest.approx(0, abs=1e-4)
    products = components.T @ components / 30
    np.testing.assert_allclose(products, np.eye(6), atol=1e-4)


def test_components_are_those_of_scikit_learn() -> None:
    own, other = encoded(30, 0), encoded(12, 1)
    pca = PCA(6, whiten=True, svd_solver="full").fit(own[1]["text"].flatten(1))
    for wanted, components in (
        (own, class_components([own])),
        (other, class_components([own, other])),
    ):
        # theirs have unit variance with n − 1 classes in the denominator
        expected = pca.transform(wanted[1]["text"].flatten(1)) * np.sqrt(30 / 29)
        signs = np.sign((components * expected).sum(axis=0))
        np.testing.assert_allclose(components * signs, expected, atol=2e-3)


def test_same_classes_have_the_same_components_as_new_ones() -> None:
    own = encoded(30, 0)
    np.testing.assert_allclose(
        class_components([own, own]), class_components([own]), rtol=1e-5, atol=1e-5
    )
    # a class of the fit keeps its components among others, in any order
    prompts, cond = own
    rows = [4, 20, 7]
    few = PromptSet.from_templates([prompts.class_names[k] for k in rows], ["{}"])
    alone = class_components([own, (few, cond.rows(torch.tensor(rows)))])
    np.testing.assert_allclose(alone, class_components([own])[rows], rtol=1e-5, atol=1e-5)


def test_a_class_is_at_the_mean_of_its_prompts() -> None:
    prompts, cond = encoded(10, 0)
    off = 0.3 * torch.randn(cond["text"].shape, generator=torch.Generator().manual_seed(0))
    twice = PromptSet.from_templates(prompts.class_names, ["{}", "a {}"])
    of_class = torch.tensor(twice.class_of)
    side = torch.tensor([1.0 if text.startswith("a ") else -1.0 for text in twice.prompts])
    text = cond["text"][of_class] + side[:, None, None] * off[of_class]
    both = Conditioning({"text": text, "mask": cond["mask"][of_class]})
    result, expected = class_components([(twice, both)]), class_components([(prompts, cond)])
    signs = np.sign((result * expected).sum(axis=0))
    np.testing.assert_allclose((result * signs)[:, :6], expected[:, :6], atol=2e-3)


@pytest.mark.parametrize("columns", [1, 7, 1000])
def test_chunks_do_not_matter(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = [encoded(20, 0), encoded(5, 1)]
    expected = class_components(fitted)
    monkeypatch.setattr(module, "COLUMNS_PER_CHUNK", columns)
    result = class_components(fitted)
    signs = np.sign((result * expected).sum(axis=0))
    np.testing.assert_allclose(result * signs, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 9), (300, 8)])
def test_encodings_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"--search learned does not fit these prompts.*--fit"):
        class_components([encoded(20, 0), encoded(5, 1, shape)])
