"""Answers to questions: the panels in their order, the cost, and the end of a closed answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.demo_server import count_passes
from PIL import Image

from diffcls.data.load import load_dataset
from diffcls.demo import answers, models
from diffcls.demo.answers import answer
from diffcls.demo.models import CLIP_MISSING, Models, published_cost
from diffcls.demo.options import DemoOptions
from diffcls.demo.questions import Question
from diffcls.support.errors import ModelError, UsageError

LABELS = ("3", "7", "8", "1")
TEMPLATE = "a photo of a handwritten digit {}."


@pytest.fixture(scope="module")
def loaded() -> Models:
    return Models(DemoOptions(model="digits", device="cpu"))


@pytest.fixture
def question() -> Question:
    image = load_dataset("digits", "test").items[13].open().convert("RGB")
    return Question("digits", image, LABELS, TEMPLATE)


def without_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)


def text_of(markup: str) -> str:
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", markup).split()))


def test_the_panels_come_in_their_order_and_the_race_ends_with_the_call(
    loaded: Models, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_clip(monkeypatch)
    changes = list(answer(loaded, question))
    assert changes[0].keys() == set(answers.PANELS)  # what an earlier answer left is cleared
    order = [name for change in changes[1:] for name in change]
    assert list(dict.fromkeys(order)) == ["race", "evidence", "samples", "clip"]
    assert order == sorted(order, key=["race", "evidence", "samples", "clip"].index)

    race = text_of([change["race"] for change in changes if "race" in change][-1])
    expected = loaded.classifier("digits")(question.image, LABELS, TEMPLATE)
    *_, last = loaded.classifier("digits").race(question.image, LABELS, TEMPLATE)
    assert race.startswith(f"The race {expected[0]['label']} ")
    assert f"{last.evaluations} evaluations" in race
    assert "published schedule: 2,000" in race
    for label, draws in last.eliminated:
        assert re.search(rf" {label} [^%]+% out after {draws} draws?,", race)

    final: dict[str, str] = {}
    for change in changes:
        final |= change
    assert final["evidence"].count("<img") == 2
    assert final["samples"].count("<img") == answers.SAMPLES
    assert CLIP_MISSING in text_of(final["clip"])


def test_clip_answers_with_its_own_probabilities(loaded: Models, question: Question) -> None:
    pytest.importorskip("open_clip")
    from diffcls.models import clip

    asked = loaded.ask_clip("digits", question.image, LABELS, TEMPLATE)
    model = clip.load("clip-digits")
    with torch.inference_mode():  # by open_clip's own functions
        image = model.model.encode_image(model.preprocess(question.image)[None], normalize=True)
        texts = model.tokenize([TEMPLATE.replace("{}", label) for label in LABELS])
        cosines = image @ model.model.encode_text(texts, normalize=True).T
        p = (model.model.logit_scale.exp() * cosines).softmax(dim=1)[0]
    assert asked.name == "clip-digits"
    assert dict(asked.prediction) == pytest.approx(dict(zip(LABELS, p.tolist(), strict=True)), 1e-4)
    shown = [one for _, one in asked.prediction]
    assert shown == sorted(shown, reverse=True)


def test_a_model_without_a_clip_of_its_own_says_so(loaded: Models, question: Question) -> None:
    pytest.importorskip("open_clip")
    own = Models(DemoOptions(model="digits", device="cpu"))
    own.presets["digits"] = replace(own.presets["digits"], clip=None)
    asked = own.ask_clip("digits", question.image, LABELS, TEMPLATE)
    assert "--clip-model" in asked.reason and not asked.prediction


@pytest.mark.parametrize("stage", ["race", "evidence", "samples"])
def test_a_closed_answer_makes_no_further_forward_pass(
    loaded: Models, question: Question, stage: str
) -> None:
    model = count_passes(loaded)
    panels = answer(loaded, question)
    seen: list[str] = []
    for change in panels:
        seen += change
        started = change.get(stage, "")
        if "<img" in started or ("<li" in started and seen.count(stage) > 2):
            break
    spent = model.passes
    assert spent > 0
    panels.close()
    assert list(panels) == [] and model.passes == spent


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ModelError("no samples today"), "no samples today"),
        (RuntimeError("/home/someone/secret"), "Something went wrong"),
    ],
)
def test_what_fails_after_the_race_is_said_in_its_own_panel(
    failure: Exception,
    said: str,
    loaded: Models,
    question: Question,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> Iterator[str]:
        raise failure
        yield ""

    without_clip(monkeypatch)
    monkeypatch.setattr(answers, "_samples", fail)
    final: dict[str, str] = {}
    for change in answer(loaded, question):
        final |= change
    assert f'role="alert">{said}' in final["samples"] and "secret" not in final["samples"]
    assert "<img" in final["evidence"] and final["clip"]


@pytest.mark.slow
def test_labels_drop_out_one_update_after_another(loaded: Models, question: Question) -> None:
    """Those that drop out on the same draw do so in one update."""
    labels = tuple("0123456789")
    asked = replace(question, labels=labels)
    shown = [
        change["race"] for change in answer(loaded, asked) if "dc-lane" in change.get("race", "")
    ]
    dropped = [markup.count("dc-lane-out") for markup in shown]
    states = list(loaded.classifier("digits").race(question.image, labels, TEMPLATE))
    assert dropped == sorted(dropped)
    assert set(dropped) == {len(state.eliminated) for state in states}


@pytest.mark.parametrize(
    ("labels", "evaluations"), [(10, 2750), (100, 5550), (101, 5570), (102, 5590)]
)
def test_the_published_cost_is_that_of_the_paper(labels: int, evaluations: int) -> None:
    """Of CIFAR-10, FGVC-Aircraft, Food-101 and Flowers-102."""
    assert published_cost(labels) == evaluations


def test_an_unknown_preset_is_refused(loaded: Models) -> None:
    with pytest.raises(UsageError, match="unknown model"):
        loaded.classifier("../weights")


def test_a_class_conditional_model_begins_with_its_own_classes(tmp_path: Path) -> None:
    """It reads no template, and its images are generated by class."""
    own = Models(DemoOptions(model="digits-pixels", device="cpu", draws=4))
    labels = own.labels("digits-pixels")
    known = own.classifier("digits-pixels").denoiser.labels
    assert known is not None and labels == tuple(known[:4])
    assert own.template("digits-pixels", TEMPLATE) is None
    image = Image.new("RGB", (8, 8))
    asked = Question("digits-pixels", image, labels, TEMPLATE)
    changes = answer(own, asked)
    race = [next(changes) for _ in range(3)][-1]["race"]
    changes.close()
    assert all(f">{label}<" in race for label in labels)
    (sample,) = own.samples("digits-pixels", labels[1], labels, TEMPLATE, [0])
    assert sample.size == (own.classifier("digits-pixels").denoiser.image_size,) * 2
