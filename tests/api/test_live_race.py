"""Live race of the Python classifier: the states of a call, and the call's answer at last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffcls
from diffcls.data.load import load_dataset
from diffcls.support.errors import DataError, ModelError, UsageError

LABELS = ["zero", "one", "seven", "four"]
TEMPLATE = "a picture of {}."


@pytest.fixture(scope="module")
def folder(tiny_pipeline: Callable[[str], Path]) -> str:
    return str(tiny_pipeline("v_prediction"))


@pytest.fixture
def classifier(folder: str) -> diffcls.ZeroShotImageClassifier:
    made = diffcls.ZeroShotImageClassifier.from_pretrained
    return made(folder, draws=12, batch_size=4)


def image(i: int = 0) -> Image.Image:
    return load_dataset("digits", "test").items[i].open()


def test_the_last_state_is_the_call_to_the_bit(
    classifier: diffcls.ZeroShotImageClassifier,
) -> None:
    for i in range(3):
        *_, last = classifier.race(image(i), LABELS, TEMPLATE)
        assert last.prediction == classifier(image(i), LABELS, TEMPLATE)
        best = last.prediction[0]
        assert last.labels[int(last.posterior.argmax())] == best["label"]
        assert float(last.posterior.max()) == best["score"]
        assert last.differences[last.labels.index(best["label"])] == 0.0


def test_the_number_of_rows_is_that_of_the_call(
    classifier: diffcls.ZeroShotImageClassifier,
) -> None:
    *_, last = classifier.race(image(), LABELS, batch_size=7)
    assert last.prediction == classifier(image(), LABELS, batch_size=7)
    assert classifier.race(image(), LABELS) and classifier.batch_size == 4


def test_probabilities_start_equal_and_labels_out_are_listed_in_their_order(
    classifier: diffcls.ZeroShotImageClassifier,
) -> None:
    states = list(classifier.race(image(), LABELS))
    assert states[0].posterior.tolist() == [0.25] * 4 and states[0].eliminated == []
    for state in states:
        assert state.labels == tuple(LABELS)
        assert state.posterior.sum() == pytest.approx(1.0)
        out = [draw for _, draw in state.eliminated]
        assert out == sorted(out)
        assert {label for label, _ in state.eliminated} == {
            label for label, alive in zip(state.labels, state.alive, strict=True) if not alive
        }


def test_two_threads_race_on_one_classifier_and_each_gets_its_own_answer(
    classifier: diffcls.ZeroShotImageClassifier,
) -> None:
    labels = [LABELS, LABELS[::-1][:3]]
    expected = [classifier(image(i), labels[i]) for i in range(2)]
    answers: dict[int, Any] = {}
    both = threading.Barrier(2)

    def visit(i: int) -> None:
        both.wait()
        *_, last = classifier.race(image(i), labels[i])
        answers[i] = last.prediction

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[i] for i in range(2)] == expected


def test_a_race_may_be_continued_by_another_thread(
    classifier: diffcls.ZeroShotImageClassifier,
) -> None:
    """As a web server does, whose threads take turns."""
    states, collected = classifier.race(image(), LABELS), []
    expected = classifier(image(), LABELS)
    state = next(states)
    while state is not None:
        collected.append(state)
        box: list[Any] = []
        thread = threading.Thread(target=lambda box=box: box.append(next(states, None)))
        thread.start()
        thread.join()
        (state,) = box
    assert collected[-1].prediction == expected


def test_wrong_arguments_are_refused_at_once_and_a_broken_image_with_the_first_state(
    classifier: diffcls.ZeroShotImageClassifier, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="two labels or more"):
        classifier.race(image(), ["one"])
    with pytest.raises(UsageError, match="race takes one image"):
        classifier.race([image(), image()], LABELS)
    with pytest.raises(UsageError, match="batch_size"):
        classifier.race(image(), LABELS, batch_size=0)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    states = classifier.race(broken, LABELS)
    with pytest.raises(DataError, match=r"image.*broken\.png"):
        next(states)


def test_a_model_that_is_replaced_ends_the_race_with_an_error(
    classifier: diffcls.ZeroShotImageClassifier, folder: str
) -> None:
    states = classifier.race(image(), LABELS)
    next(states)
    classifier.denoiser = diffcls.ZeroShotImageClassifier.from_pretrained(folder).denoiser
    with pytest.raises(ModelError, match="changed during a race"):
        next(states)
    assert np.isfinite([p["score"] for p in classifier(image(), LABELS)]).all()
