"""Zero-shot classifier: the interface of transformers' pipeline, its scores and errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

import diffcls
from diffcls.data.load import load_dataset
from diffcls.models.denoiser import ModelCard
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.support.errors import DataError, ModelError, RecordError, UsageError

LABELS = ["zero", "one", "seven"]


@pytest.fixture(scope="module")
def classifier(tiny_pipeline: Callable[[str], Path]) -> diffcls.ZeroShotImageClassifier:
    return diffcls.ZeroShotImageClassifier.from_pretrained(
        str(tiny_pipeline("v_prediction")), search="exhaustive", draws=4, batch_size=16
    )


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [item.open().convert("RGB") for item in load_dataset("digits", "test").items[:3]]


def test_one_image_gives_one_list_best_first(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    prediction = classifier(images[0], candidate_labels=LABELS)
    assert [set(entry) for entry in prediction] == [{"label", "score"}] * 3
    assert {entry["label"] for entry in prediction} == set(LABELS)
    p = [entry["score"] for entry in prediction]
    assert p == sorted(p, reverse=True)
    assert sum(p) == pytest.approx(1.0, abs=1e-12)


def test_a_list_gives_a_list_and_results_do_not_depend_on_batch_composition(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    together = classifier(images, candidate_labels=LABELS)
    assert together == [classifier(image, candidate_labels=LABELS) for image in images]
    assert together == classifier(images[::-1], candidate_labels=LABELS)[::-1]
    assert classifier([images[0]], candidate_labels=LABELS) == [together[0]]


def test_path_array_and_image_are_the_same(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image], tmp_path: Path
) -> None:
    path = tmp_path / "digit.png"
    images[0].save(path)
    wanted = classifier(images[0], candidate_labels=LABELS)
    pixels = np.asarray(images[0])
    for same in (path, str(path), pixels, pixels / 255.0):
        assert classifier(same, candidate_labels=LABELS) == wanted
    assert classifier(np.stack([pixels] * 2), candidate_labels=LABELS) == [wanted] * 2


def test_order_of_labels_does_not_matter(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    there = classifier(images[0], candidate_labels=LABELS)
    back = classifier(images[0], candidate_labels=LABELS[::-1])
    assert there == back


def test_template_reaches_the_model(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    plain = classifier(images[0], candidate_labels=LABELS)
    spelled = classifier(
        images[0],
        candidate_labels=[f"a photo of a {label}." for label in LABELS],
        hypothesis_template="{}",
    )
    assert [e["score"] for e in plain] == [e["score"] for e in spelled]
    other = classifier(images[0], candidate_labels=LABELS, hypothesis_template="the {}!")
    assert [e["score"] for e in plain] != [e["score"] for e in other]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "two labels"),
        (["one"], "two labels"),
        (["one", " one"], "duplicate labels"),
        (["Three", "three"], "duplicate labels"),
        (["three!", "three !"], "share a prompt and cannot be distinguished"),
        ("one", "a list"),
    ],
)
def test_fewer_than_two_distinct_labels_are_refused(
    classifier: diffcls.ZeroShotImageClassifier,
    images: list[Image.Image],
    labels: list[str],
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        classifier(images[0], candidate_labels=labels)


def test_bad_images_are_refused_and_named(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no image"):
        classifier([], candidate_labels=LABELS)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(DataError, match="image 1 cannot be scored"):
        classifier([images[0], broken], candidate_labels=LABELS)
    with pytest.raises(UsageError, match="exactly one"):
        classifier(images[0], candidate_labels=LABELS, hypothesis_template="no place")


def test_unknown_search_and_option_are_refused_before_a_model_is_opened() -> None:
    with pytest.raises(UsageError, match="did you mean 'racing'"):
        diffcls.ZeroShotImageClassifier.from_pretrained("nowhere", search="racin")


def test_public_names_are_complete_and_importable() -> None:
    classes = ["DiffusionClassifier", "ZeroShotImageClassifier"]
    errors = ["DataError", "DiffclsError", "ModelError", "RecordError", "UsageError"]
    functions = ["estimate_likelihood", "generate_images", "measure_fidelity", "run_evaluation"]
    functions += ["compare_runs", "fit_temperature"]
    assert diffcls.__all__ == sorted([*classes, *errors, *functions, "__version__"])
    for name in diffcls.__all__:
        assert getattr(diffcls, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        diffcls.nothing  # noqa: B018


def test_public_exceptions_are_those_of_the_package() -> None:
    for error in (UsageError, DataError, ModelError, RecordError):
        assert getattr(diffcls, error.__name__) is error
        assert issubclass(error, diffcls.DiffclsError)
    with pytest.raises(diffcls.UsageError, match="did you mean 'racing'"):
        diffcls.ZeroShotImageClassifier.from_pretrained(search="racin")


def test_allocation_is_that_of_the_card_except_for_the_published_stages() -> None:
    card = ModelCard("made", "0", allocation="learned@made:0=1,1=2")
    denoiser = GaussianDenoiser({label: torch.zeros(1, 2, 2) for label in LABELS}, 0.2)
    denoiser.card = card
    assert diffcls.ZeroShotImageClassifier(denoiser).allocation == card.allocation
    paper = {"samples": (2, 4), "keep": (2, 1)}
    published = diffcls.ZeroShotImageClassifier(denoiser, search="paper", search_options=paper)
    assert published.allocation == "even"


def test_a_data_set_without_an_end_is_read_to_its_length(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    class Endless:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Image.Image:
            assert index < 2, "read beyond its length"
            return images[index]

    wanted = classifier(images[:2], candidate_labels=LABELS)
    assert list(classifier(Endless(), candidate_labels=LABELS)) == wanted
    assert list(classifier(iter(images[:2]), candidate_labels=LABELS)) == wanted


def test_missing_and_unsuitable_images_are_refused_before_any_is_scored(
    classifier: diffcls.ZeroShotImageClassifier,
    images: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("diffcls.classifiers.diffusion.DiffusionMethod.classify")
    with pytest.raises(DataError, match=r"image 1: file not found: 'nowhere\.png'"):
        classifier([images[0], "nowhere.png"], candidate_labels=LABELS)
    with pytest.raises(DataError, match="image 0 cannot be read as an image: 'object'"):
        classifier([object()], candidate_labels=LABELS)


def test_several_templates_average_their_errors(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    templates = ["a photo of a {}.", "the {}!"]

    def scores(used: list[str]) -> np.ndarray:
        method = classifier.method(classifier.prompts(LABELS, used))
        return classifier.scores(method, images[:1])[0].scores

    alone = [scores([template]) for template in templates]
    np.testing.assert_allclose(scores(templates), np.mean(alone, axis=0), rtol=1e-5)
    both = classifier(images[0], candidate_labels=LABELS, hypothesis_template=templates)
    assert sum(entry["score"] for entry in both) == pytest.approx(1.0)


@pytest.mark.parametrize("template", [3, b"{}", {"{}"}, ["{}", 3]])
def test_templates_of_another_kind_are_refused(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image], template: object
) -> None:
    with pytest.raises(UsageError, match="hypothesis_template cannot be read"):
        classifier(images[0], candidate_labels=LABELS, hypothesis_template=template)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("cat, dog", r"give \['cat', 'dog'\]"),
        (None, "no candidate_labels given"),
        (3, "cannot be read: 3"),
        (b"cat", "cannot be read: 'bytes'"),
        ({"cat": 1, "dog": 2}, r"is a mapping: \['cat', 'dog'\].*list\(names\)"),
        (pandas.DataFrame({"name": LABELS, "id": [0, 1, 7]}), r"is a table: \['name', 'id'\]"),
        (np.array([["cat", "dog"]]), "cannot be read: 'numpy.ndarray of shape"),
        (["cat", 3], "not a text: 3"),
    ],
)
def test_labels_that_are_no_list_are_refused_with_the_way_to_give_them(
    classifier: diffcls.ZeroShotImageClassifier,
    images: list[Image.Image],
    labels: object,
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        classifier(images[0], candidate_labels=labels)  # type: ignore[arg-type]


def test_labels_of_any_collection_are_the_same(
    classifier: diffcls.ZeroShotImageClassifier, images: list[Image.Image]
) -> None:
    wanted = classifier(images[0], candidate_labels=LABELS)
    for labels in (
        tuple(LABELS),
        np.array(LABELS),
        np.array(LABELS, dtype=object),
        pandas.Series(LABELS, index=[3, 3, 5]),
        pandas.Index(LABELS),
        dict.fromkeys(LABELS, 0).keys(),
        dict(enumerate(LABELS)).values(),
        set(LABELS),
        (label for label in LABELS),
    ):
        answer = classifier(images[0], candidate_labels=labels)
        assert answer == wanted and {type(entry["label"]) for entry in answer} == {str}


def test_a_model_of_class_ids_refuses_a_template(images: list[Image.Image]) -> None:
    classifier = diffcls.ZeroShotImageClassifier.from_pretrained(
        "digits-pixels", search="exhaustive", draws=1
    )
    assert len(classifier(images[0], candidate_labels=["1", "7"])) == 2
    with pytest.raises(UsageError, match="needs a text-conditional model"):
        classifier(images[0], candidate_labels=["1", "7"], hypothesis_template="a {}")
