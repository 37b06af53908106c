"""The Python call with reject and multi_label, on an analytic model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.text_gaussian import TextGaussian, mean_of
from PIL import Image

import diffcls
from diffcls.api.background import calibrate_rejection, fit_label_threshold
from diffcls.data.transforms import load_image, to_image, to_pixels
from diffcls.metrics.rejection import Calibration
from diffcls.support.errors import DataError, UsageError

LABELS = ["cat", "dog", "cow"]
DRAWS = 6


def classifier(scale: float = 0.3) -> diffcls.ZeroShotImageClassifier:
    return diffcls.ZeroShotImageClassifier(
        TextGaussian(scale), search_options={"draws": DRAWS}, batch_size=16
    )


def picture(label: str, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 0.1, (3, 8, 8))
    return to_image(mean_of(f"a photo of a {label}.").numpy() + noise)


def distances(image: Image.Image, *texts: str) -> np.ndarray:
    """Mean squared distance of an image to the mean of each prompt."""
    x0 = to_pixels(load_image(image), 8).astype(np.float64)
    return np.array([((x0 - mean_of(text).numpy()) ** 2).mean() for text in texts])


def snr(of: diffcls.ZeroShotImageClassifier) -> float:
    """Without spread within a class, the error is the distance times this, at mean over draws."""
    schedule = of.denoiser.schedule
    indices = of.method(of.prompts(LABELS)).plan.indices
    return float(((schedule.alpha / schedule.sigma)[indices] ** 2).mean())


def test_posterior_of_none_is_that_in_closed_form() -> None:
    exact, image = classifier(0.0), picture("dog")
    calibration = Calibration(scale=0.02, offset=-0.3)
    found = exact(image, LABELS, reject=calibration)
    texts = [*(f"a photo of a {label}." for label in LABELS), ""]
    d = distances(image, *texts)
    # racing keeps its paired differences, so every class has the error of all its draws here
    logits = -0.02 * snr(exact) * d + np.array([0, 0, 0, -0.3])
    expected = np.exp(logits) / np.exp(logits).sum()
    by_label = {entry["label"]: entry["score"] for entry in found}
    assert [by_label[n] for n in ("dog", "none of these")] == pytest.approx(
        expected[[1, 3]], rel=0.02
    )
    assert sum(by_label.values()) == pytest.approx(1.0)


def test_none_of_these_is_the_answer_to_other_images() -> None:
    clf = classifier()
    names = ["cat", "dog", "cow", "ship", "tree"]
    images = [picture(name, i) for i in range(6) for name in names]
    calibration = calibrate_rejection(clf, images, names * 6, LABELS)
    backwards = calibrate_rejection(clf, images[::-1], (names * 6)[::-1], LABELS)
    assert backwards.scale == pytest.approx(calibration.scale, rel=1e-6)
    answers = clf([picture(name, 99) for name in names], LABELS, reject=calibration)
    assert [answer[0]["label"] for answer in answers] == [*LABELS, *["none of these"] * 2]
    assert clf(picture("ship", 99), LABELS, reject=True)[0]["label"] == "none of these"


def test_each_label_has_its_own_probability_against_its_background() -> None:
    exact, image = classifier(0.0), picture("dog")
    scale = exact.method(exact.prompts(LABELS)).likelihood_scale * snr(exact)
    for background in ("", "a photo without a {}."):
        found = exact(image, LABELS, multi_label=True, threshold=2.0, background_prompt=background)
        for entry in found:
            label = entry["label"]
            texts = f"a photo of a {label}.", background.replace("{}", label)
            near, far = distances(image, *texts)
            expected = 1 / (1 + np.exp(-(scale * (far - near) - 2.0)))
            assert entry["score"] == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_threshold_separates_the_labels_of_validation_images() -> None:
    clf = classifier()
    images = [picture(name, i) for i in range(3) for name in LABELS]
    threshold = fit_label_threshold(clf, images, [{name} for name in LABELS * 3], LABELS)
    for answer, name in zip(
        clf(images, LABELS, multi_label=True, threshold=threshold), LABELS * 3, strict=True
    ):
        assert [entry["label"] for entry in answer if entry["score"] >= 0.5] == [name]


def test_call_without_them_is_as_before() -> None:
    clf, image = classifier(), picture("cow")
    before = clf(image, LABELS)
    clf(image, LABELS, reject=True)
    assert clf(image, LABELS) == before


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (LABELS, {"reject": True, "multi_label": True}, "exclude each other"),
        ([*LABELS, "none of these"], {"reject": True}, "name of the background class"),
        (
            LABELS,
            {"reject": True, "background_prompt": "a photo of a dog."},
            "--background-prompt is a candidate's prompt, too",
        ),
    ],
)
def test_question_without_a_meaning_is_refused(
    labels: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        classifier()(picture("cat"), labels, **options)


def test_validation_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="images and labels differ in number"):
        calibrate_rejection(classifier(), [picture("cat")], ["cat", "dog"], LABELS)
    with pytest.raises(DataError, match="do not fit the images and the candidates"):
        fit_label_threshold(classifier(), [picture("cat")], [{"ship"}], LABELS)


def test_a_screen_does_not_see_the_background() -> None:
    clf = diffcls.ZeroShotImageClassifier(TextGaussian(0.3), search="gradient", batch_size=16)
    for image, answer in ((picture("dog"), "dog"), (picture("ship"), "none of these")):
        assert clf(image, LABELS, reject=True)[0]["label"] == answer


def test_a_calibration_out_of_range_is_refused() -> None:
    for scale, offset in ((0.0, 1.0), (-1.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))):
        with pytest.raises(UsageError, match=r"scale out of range|offset is not finite"):
            Calibration(scale, offset)


def test_labels_present_are_a_collection_and_no_text() -> None:
    for wrong in ("10", None):
        with pytest.raises(DataError, match=f"are no list.*{wrong}"):
            fit_label_threshold(classifier(), [picture("1")], [wrong], ["1", "0", "10"])
    images, shown = [picture(name) for name in LABELS], [[name] for name in LABELS]
    series = [pd.Series(names, index=["one"]) for names in shown]
    wanted = fit_label_threshold(classifier(), images, shown, LABELS)
    assert fit_label_threshold(classifier(), images, series, LABELS) == wanted


def test_the_seed_counts_in_the_next_call() -> None:
    for options in ({}, {"reject": True}, {"multi_label": True}):
        clf, fresh = classifier(), classifier()
        before = clf(picture("dog"), LABELS, **options)
        clf.seed = fresh.seed = 7
        assert clf(picture("dog"), LABELS, **options) == fresh(picture("dog"), LABELS, **options)
        assert clf(picture("dog"), LABELS, **options) != before


def test_a_calibration_for_other_prompts_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    clf, names = classifier(), ["cat", "ship"]
    images = [picture(name) for name in names]
    calibration = calibrate_rejection(clf, images, names, LABELS, "{}", "a thing")
    same: dict[str, Any] = {"hypothesis_template": "{}", "background_prompt": "a thing"}
    clf(images[0], LABELS, reject=calibration, **same)
    clf(images[0], LABELS[::-1], reject=calibration, **same)
    clf(images[0], LABELS, reject=Calibration(calibration.scale, calibration.offset))
    assert not caplog.records
    for labels, changed in (
        (LABELS[:2], {}),
        (LABELS, {"hypothesis_template": "a {}"}),
        (LABELS, {"background_prompt": ""}),
    ):
        caplog.clear()
        clf(images[0], labels, reject=calibration, **{**same, **changed})
        assert "fitted for another model, or for other labels" in caplog.text
