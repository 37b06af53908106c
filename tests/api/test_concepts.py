"""Concepts of the Python classifier: learned, used in labels, moved and pickled with it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from helpers.library_pipelines import Folders, folders
from PIL import Image

from diffcls import ZeroShotImageClassifier
from diffcls.concepts.task import Learned
from diffcls.models.quiet import quiet
from diffcls.support.errors import DataError, ModelError, UsageError

__all__ = ["folders"]
TOKEN, LABELS = "<my-mug>", ["<my-mug>", "three", "seven"]


def photos(count: int = 2) -> list[Image.Image]:
    return [
        Image.frombytes("RGB", (32, 32), bytes((i * 7 + j * j) % 251 for j in range(32 * 32 * 3)))
        for i in range(count)
    ]


def add(classifier: ZeroShotImageClassifier, **given: Any) -> Learned:
    usual = {"init": "three", "steps": 2, "batch_size": 2}
    return classifier.add_concept(photos(), TOKEN, **usual | given)  # type: ignore[arg-type]


@pytest.fixture
def classifier(folders: Folders) -> ZeroShotImageClassifier:
    return ZeroShotImageClassifier.from_pretrained(str(folders("sd1")), draws=4, batch_size=16)


def test_labels_may_contain_the_concept(
    classifier: ZeroShotImageClassifier, folders: Folders, tmp_path: Path
) -> None:
    before = classifier(photos()[0], LABELS[1:])
    revision = classifier.denoiser.card.revision
    learned = add(classifier)
    assert classifier.concepts == (TOKEN,)
    assert {one["label"] for one in classifier(photos()[0], LABELS)} == set(LABELS)  # type: ignore
    assert classifier(photos()[0], LABELS[1:]) == before
    assert classifier.denoiser.card.revision == f"{revision} + {learned.revision()}"
    # its rows in plain diffusers give the same conditioning
    with quiet():
        pipeline = DiffusionPipeline.from_pretrained(folders("sd1"))
        pipeline.load_textual_inversion(dict(learned.tensors))
    with torch.inference_mode():
        expected, _ = pipeline.encode_prompt(TOKEN, "cpu", 1, False)
    assert torch.equal(classifier.denoiser.encode_prompts([TOKEN])["text"], expected)


def test_a_pickled_and_a_moved_classifier_keep_the_concept(
    classifier: ZeroShotImageClassifier,
) -> None:
    add(classifier)
    answer = classifier(photos()[0], LABELS)
    copied = pickle.loads(pickle.dumps(classifier))
    assert copied(photos()[0], LABELS) == answer and copied.concepts == (TOKEN,)
    other = classifier.to(torch.bfloat16).to(torch.float32)
    assert other(photos()[0], LABELS) == answer


@pytest.mark.parametrize("method", ["textual", "dreambooth"])
def test_a_pipeline_in_memory_stays_as_it_is(folders: Folders, method: str) -> None:
    with quiet():
        pipeline: Any = DiffusionPipeline.from_pretrained(folders("sd1"))
    parts = {n: p for n, p in pipeline.components.items() if isinstance(p, torch.nn.Module)}
    before = {n: {k: v.clone() for k, v in p.state_dict().items()} for n, p in parts.items()}
    tokens, config = len(pipeline.tokenizer), pipeline.text_encoder.config.to_dict()
    classifier = ZeroShotImageClassifier.from_pipeline(pipeline, draws=4, batch_size=16)
    plain = classifier(photos()[0], LABELS[1:])
    add(classifier, method=method, **({"prior_images": 2} if method == "dreambooth" else {}))
    first = classifier(photos()[0], LABELS)
    assert classifier(photos()[0], LABELS) == first
    assert len(pipeline.tokenizer) == tokens
    assert pipeline.text_encoder.config.to_dict() == config
    for name, part in parts.items():
        state = part.state_dict()
        assert state.keys() == before[name].keys()
        assert all(torch.equal(state[k], v) for k, v in before[name].items())
    if method == "textual":
        assert classifier(photos()[0], LABELS[1:]) == plain
    with torch.no_grad():  # a training step: the classifier follows, and keeps its concept
        pipeline.unet.conv_in.weight.add_(0.1)
    assert classifier(photos()[0], LABELS) != first and len(classifier.concepts) == 1


def test_what_cannot_be_learned_is_refused(classifier: ZeroShotImageClassifier) -> None:
    for name in ("my-mug", "<My-Mug>", "<my mug>", "<>", ""):
        with pytest.raises(UsageError, match="--name is no name of a concept"):
            classifier.add_concept(photos(), name)
    with pytest.raises(UsageError, match="--rank does not apply to --method textual"):
        add(classifier, rank=4)
    with pytest.raises(UsageError, match="--method discriminative needs --against"):
        add(classifier, method="discriminative")
    with pytest.raises(UsageError, match="unknown method of learning a concept: 'textul'"):
        add(classifier, method="textul")
    with pytest.raises(DataError):
        classifier.add_concept([], TOKEN)
    assert classifier.concepts == ()
    add(classifier)
    with pytest.raises(UsageError, match="a concept of this name already: '<my-mug>'"):
        add(classifier)


def test_two_concepts_of_one_name_are_refused(classifier: ZeroShotImageClassifier) -> None:
    given = {"method": "dreambooth", "prior_images": 2, "rank": 2}
    add(classifier, **given)
    revision = classifier.denoiser.card.revision
    for again in (given, given | {"init": "seven"}, {}):
        with pytest.raises(UsageError, match="a concept of this name already: '<my-mug>'"):
            add(classifier, **again)
    assert classifier.concepts == (f"{TOKEN} three",)
    assert classifier.denoiser.card.revision == revision


def test_a_class_conditional_model_has_no_words() -> None:
    classifier = ZeroShotImageClassifier.from_pretrained("digits-pixels")
    with pytest.raises(ModelError, match="a class-conditional model has no words"):
        classifier.add_concept(photos(), TOKEN)
