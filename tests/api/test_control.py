"""A classifier given the edges: the scores of the command, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from helpers import control_nets

from diffcls import ZeroShotImageClassifier
from diffcls.data.load import load_dataset
from diffcls.models import given
from diffcls.support.errors import UsageError

LABELS = ("a small red circle", "a large blue square")


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pipeline = given.load("scenes", "cpu", None, None).pipeline  # type: ignore[attr-defined]
    folder = tmp_path_factory.mktemp("nets")
    return {
        name: str(control_nets.save("sd1", pipeline, folder / name, is_zero=name == "zero"))
        for name in ("random", "zero")
    }


def test_answers_given_the_edges(nets: dict[str, str]) -> None:
    pytest.importorskip("cv2")
    image = load_dataset("scenes/attributes", "test").items[0].open()

    def answer(**control: str) -> object:
        made = ZeroShotImageClassifier.from_pretrained("scenes", draws=4, **control)
        result = made(image, candidate_labels=LABELS)
        assert pickle.loads(pickle.dumps(made))(image, candidate_labels=LABELS) == result
        return result

    plain = answer()
    assert answer(control="canny", control_model=nets["zero"]) == plain
    assert answer(control="canny", control_model=nets["random"]) != plain


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"control": "edges"}, "control"),
        ({"control": "canny", "model": "digits"}, "needs a ControlNet of the model"),
        ({"control_model": "control-scenes"}, "control names the edges"),
    ],
)
def test_what_cannot_be_controlled_is_refused(
    arguments: dict[str, str], words: str, tmp_path: Path
) -> None:
    pytest.importorskip("cv2")
    with pytest.raises(UsageError, match=words):
        ZeroShotImageClassifier.from_pretrained(**{"model": "scenes", **arguments})


def test_a_classifier_given_the_edges_learns_no_concept_and_edits_no_image(
    nets: dict[str, str],
) -> None:
    pytest.importorskip("cv2")
    image = load_dataset("scenes/attributes", "test").items[0].open()
    made = ZeroShotImageClassifier.from_pretrained(
        "scenes", draws=4, control="canny", control_model=nets["zero"]
    )
    with pytest.raises(UsageError, match="a concept cannot be added to a model with a ControlNet"):
        made.add_concept([image], "<new>", steps=3)
    assert made.concepts == () and made(image, candidate_labels=LABELS)
    with pytest.raises(UsageError, match="counterfactuals need a classifier without `control`"):
        made.counterfactual(image, LABELS[1], LABELS)
    with pytest.raises(UsageError, match="explanations need a classifier without `control`"):
        made.explain(image, *LABELS[:2])
