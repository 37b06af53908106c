"""Service behind the page's buttons, its limits, and what it forgets; examples and presets."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffcls.data.load import load_dataset
from diffcls.data.scenes.grammar import parse
from diffcls.data.scenes.render import render_scene
from diffcls.demo import examples, service
from diffcls.demo.models import Models
from diffcls.demo.options import DemoOptions
from diffcls.demo.presets import BUNDLED, presets
from diffcls.demo.service import Service
from diffcls.models.clip_names import bundled as bundled_clips
from diffcls.models.loading import bundled


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service whose answers are the questions themselves."""

    def repeat(models: Models, question: Any) -> Any:
        yield {"race": f"{question.preset}|{question.labels}|{question.image.size}"}

    monkeypatch.setattr(service, "answer", repeat)
    return Service(Models(DemoOptions(model="digits", rate=2, max_labels=3)), tmp_path)


def upload(folder: Path) -> dict[str, str]:
    path = folder / "image.png"
    Image.new("RGB", (6, 4)).save(path)
    return {"path": str(path)}


def ask(one: Service, given: Any, labels: str = "a, b", template: str = "{}", **who: str) -> str:
    visitor, session = who.get("visitor", "v"), who.get("session", "s")
    one.press(session, "digits", given, labels, template)
    (panels,) = one.answers(session, visitor)
    return panels["race"]


def test_a_question_is_answered_within_the_rate_of_its_visitor(
    answered: Service, tmp_path: Path
) -> None:
    given = upload(tmp_path)
    assert [ask(answered, given) for _ in range(2)] == ["digits|('a', 'b')|(6, 4)"] * 2
    assert "Too many questions; the next one is possible in 60 s." in ask(answered, given)
    assert ask(answered, given, visitor="another") == "digits|('a', 'b')|(6, 4)"


def test_a_wrong_question_is_answered_by_one_sentence_and_does_not_count(
    answered: Service, tmp_path: Path
) -> None:
    given = upload(tmp_path)
    for _ in range(3):
        assert "no image" in ask(answered, None)
        assert "too few labels" in ask(answered, given, "a")
        assert "at most 3" in ask(answered, given, "a,b,c,d")
        assert "template" in ask(answered, given, "a,b", "no place")
    assert ask(answered, given) == "digits|('a', 'b')|(6, 4)"


def test_an_unexpected_failure_is_logged_and_tells_the_visitor_nothing(
    answered: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("/home/someone/secret")
        yield

    monkeypatch.setattr(service, "answer", fail)
    with caplog.at_level(logging.ERROR):
        shown = ask(answered, upload(tmp_path))
    assert "Something went wrong" in shown and "secret" not in shown
    assert "secret" in caplog.text


def test_uploads_are_deleted_with_their_page_alone(answered: Service, tmp_path: Path) -> None:
    first = upload(tmp_path)
    (tmp_path / "other").mkdir()
    second = upload(tmp_path / "other")
    ask(answered, first, session="one")
    ask(answered, second, session="two")
    answered.forget("one")
    answered.forget("one")
    assert not Path(first["path"]).exists() and Path(second["path"]).exists()


def test_an_image_that_two_visitors_chose_is_kept_until_both_have_left(
    answered: Service, tmp_path: Path
) -> None:
    shared = upload(tmp_path)
    ask(answered, shared, session="one")
    ask(answered, shared, session="two")
    answered.forget("one")
    assert Path(shared["path"]).exists()
    answered.forget("two")
    assert not Path(shared["path"]).exists()


# ---- presets and examples -----------------------------------------------------------------------


def test_every_preset_is_a_bundled_model_with_a_bundled_clip() -> None:
    assert {preset.name for preset in BUNDLED} <= set(bundled())
    assert {preset.clip for preset in BUNDLED} <= set(bundled_clips())
    assert presets(DemoOptions()) == BUNDLED


def test_a_named_model_stands_alone_and_a_named_clip_replaces_the_bundled_one() -> None:
    (one,) = presets(DemoOptions(model="cifar10", clip_model="RN50/openai"))
    assert (one.name, one.clip) == ("cifar10", "RN50/openai")
    (own,) = presets(DemoOptions(model="sd2-base"))
    assert (own.name, own.clip) == ("sd2-base", None)


def test_examples_are_digits_and_scenes_and_images_that_the_models_generate() -> None:
    generated: list[tuple[str, str]] = []

    def generate(preset: Any, label: str) -> Image.Image:
        assert label in preset.labels
        generated.append((preset.name, label))
        return Image.new("RGB", (32, 32))

    found = examples.examples(BUNDLED, generate)
    assert not generated  # the page is served before a model makes an image
    for example in found:
        assert example.image is example.image  # made once
    assert {example.preset for example in found} == {preset.name for preset in BUNDLED}
    assert generated == [
        (name, label) for name in ("cifar10", "fashion_mnist") for label in examples.GENERATED[name]
    ]
    digits = load_dataset("digits", "test").items
    originals = {np.asarray(digits[i].open().convert("RGB")).tobytes() for i in examples.DIGITS}
    originals |= {render_scene(parse(text), key).tobytes() for text, key in examples.SCENES}
    for example in found:
        if example.preset in ("digits", "scenes"):
            factor = example.image.width // (8 if example.preset == "digits" else 32)
            assert np.asarray(example.image)[::factor, ::factor].tobytes() in originals
    own = examples.examples(presets(DemoOptions(model="sd2-base")), generate)
    assert len(own) == len(examples.DIGITS) + len(examples.SCENES)
