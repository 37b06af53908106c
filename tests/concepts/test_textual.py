"""Textual inversion: gradients, resumption, and what is left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.library_pipelines import Folders, folders

from diffcls.concepts.learn import learn
from diffcls.concepts.learned_rows import LearnedRows, initial_vectors
from diffcls.concepts.options import ConceptSettings
from diffcls.concepts.task import LearningTask
from diffcls.concepts.textual import loss_of
from diffcls.models import loading
from diffcls.training import loop

__all__ = ["folders"]
TOKEN = "<my-mug>"
FAMILIES = ["sd1", "sdxl"]


def settings(**given: Any) -> ConceptSettings:
    return ConceptSettings(name=TOKEN, init="three", **({"steps": 6, "batch_size": 4} | given))


def images(model: Any) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(3, *model.sample_shape, generator=rng)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_of_the_loss_equals_finite_differences(folders: Folders, family: str) -> None:
    model: Any = loading.load(str(folders(family)))
    chosen = settings(vectors=2)
    rows = LearnedRows(model, TOKEN, initial_vectors(model, TOKEN, "three", 2))
    loss = loss_of(LearningTask(model, TOKEN, images(model), chosen, ("a photo of a {}.", "{}")))
    step = 0.02
    with rows.attached():
        loss(0).backward()
        for row in rows.rows.values():
            gradient = row.grad
            assert gradient is not None and gradient.abs().min(dim=1).values.max() > 0
            direction = gradient / gradient.norm()
            with torch.no_grad():
                row += step * direction
                above = loss(0).double()
                row -= 2 * step * direction
                below = loss(0).double()
                row += step * direction
            slope = float(above - below) / (2 * step)
            assert slope == pytest.approx(float(gradient.norm()), rel=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_learning_changes_no_weight_of_the_model(folders: Folders, family: str) -> None:
    model: Any = loading.load(str(folders(family)))
    before = {
        f"{name}.{key}": value.clone()
        for name, part in model.pipeline.components.items()
        if isinstance(part, torch.nn.Module)
        for key, value in part.state_dict().items()
    }
    learned = learn(model, settings(), images(model))
    start = initial_vectors(loading.load(str(folders(family))), TOKEN, "three", 1)  # type: ignore[arg-type]
    for part, vectors in learned.vectors.items():
        assert (vectors - start[part]).abs().max() > 1e-4
    for name, value in before.items():
        part, _, key = name.partition(".")
        now = getattr(model.pipeline, part).state_dict()[key]
        assert torch.equal(now[: len(value)] if value.ndim else now, value), name


def test_learned_vectors_give_in_the_file_what_they_gave_in_training(folders: Folders) -> None:
    model: Any = loading.load(str(folders("sd1")))
    rows = LearnedRows(model, TOKEN, {"text_encoder": torch.randn(2, 32)})
    prompt = [f"a photo of {TOKEN}"]
    with rows.attached(), torch.no_grad():
        attached = model.encode_with_gradient(prompt)["text"]
    other: Any = loading.load(str(folders("sd1")))
    from diffcls.models.concepts import add_vectors

    add_vectors(other.pipeline, TOKEN, rows.vectors())
    assert torch.allclose(attached, other.encode_prompts(prompt)["text"], atol=1e-6)


def test_killed_and_resumed_learning_gives_the_same_vectors(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(folders("sd1"))
    whole = learn(loading.load(path), settings(), images(loading.load(path)))

    @contextmanager
    def after_three(processes: object) -> Iterator[Any]:
        steps = iter([False, False, True])
        yield lambda: next(steps)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "interrupt_requested", after_three)
        with pytest.raises(KeyboardInterrupt):
            learn(loading.load(path), settings(), images(loading.load(path)), folder=tmp_path)
    resumed = learn(loading.load(path), settings(), images(loading.load(path)), folder=tmp_path)
    for part, vectors in whole.vectors.items():
        assert torch.equal(vectors, resumed.vectors[part])


def test_initial_vectors_are_those_of_the_words(folders: Folders) -> None:
    model: Any = loading.load(str(folders("sd1")))
    table = model.pipeline.text_encoder.get_input_embeddings().weight
    ids = model.pipeline.tokenizer("three seven", add_special_tokens=False).input_ids
    one = initial_vectors(model, TOKEN, "three seven", 1)["text_encoder"]
    three = initial_vectors(model, TOKEN, "three seven", len(ids) + 1)["text_encoder"]
    assert torch.allclose(one[0], table[ids].mean(0))
    assert torch.equal(three[:-1], table[ids]) and torch.allclose(three[-1], table[ids].mean(0))
    assert torch.allclose(initial_vectors(model, TOKEN, None, 1)["text_encoder"][0], table.mean(0))
