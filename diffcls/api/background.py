"""Answers against a background prompt: "none of these", and several labels per image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.api.inputs import as_list
from diffcls.api.remote_images import TIMEOUT_SECONDS
from diffcls.data.open_set import NONE_OF_THESE
from diffcls.data.prompts import PromptSet, check_labels
from diffcls.metrics.calibration import posterior
from diffcls.metrics.multi_label import fit_threshold
from diffcls.metrics.rejection import Calibration, fit_calibration
from diffcls.search.exhaustive import Exhaustive
from diffcls.support.errors import DataError, UsageError
from diffcls.support.types import Float64

if TYPE_CHECKING:
    from diffcls.api.zero_shot import Prediction, ZeroShotImageClassifier
    from diffcls.classifiers.diffusion import DiffusionMethod

DRAWS = 20
"""Draws of each label, of a search that does not set their number."""


def answer(
    classifier: ZeroShotImageClassifier,
    batch: Sequence[Any],
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    background: str,
    reject: bool | Calibration,
    multi_label: bool,
    threshold: float,
    timeout: float,
) -> list[Prediction]:
    """The answers of a call with ``reject`` or ``multi_label``, see the functions below.

    Raises:
        UsageError: for both at once.
    """
    if reject and multi_label:
        raise UsageError(
            "reject and multi_label exclude each other",
            given="both",
            todo="remove one: with multi_label, no label of 0.5 or more means none of these",
        )
    if multi_label:
        return predict_each_label(
            classifier, batch, labels, templates, threshold, background, timeout
        )
    calibration = reject if isinstance(reject, Calibration) else None
    return predict_with_none(classifier, batch, labels, templates, calibration, background, timeout)


def predict_with_none(
    classifier: ZeroShotImageClassifier,
    batch: Sequence[Any],
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    calibration: Calibration | None,
    background: str,
    timeout: float,
) -> list[Prediction]:
    """The posterior over the labels and `NONE_OF_THESE`, best first, of each image.

    Its equation stands in `diffcls.metrics.rejection.candidate_log_odds`.

    Args:
        classifier: the classifier.
        batch: the images.
        labels: candidate labels.
        templates: hypothesis templates.
        calibration: from `calibrate_rejection`; None: the temperature of the model's card, and the
            background's prior odds equal to those of each label.
        background: the background prompt, "" for the empty one.
        timeout: time to fetch one image from the web, in seconds.

    Raises:
        UsageError: for a label of that name, or as `diffcls.classifiers.background` says.
    """
    if NONE_OF_THESE in labels:
        raise UsageError(
            "a label has the name of the background class", given=NONE_OF_THESE, todo="rename it"
        )
    method = _method(classifier, classifier.prompts(labels, templates), background)
    calibration = calibration or Calibration(method.likelihood_scale, 0.0)
    names = (*labels, NONE_OF_THESE)
    predictions = []
    for result in classifier.scores(method, batch, timeout):
        scores = calibration.with_background(result.scores[None], np.array([result.background]))
        p = posterior(scores[0], calibration.scale)
        order = np.argsort(-scores[0], kind="stable")
        predictions.append([{"label": names[k], "score": float(p[k])} for k in order])
    return predictions


def calibrate_rejection(
    classifier: ZeroShotImageClassifier,
    images: Any,
    labels: Sequence[str | None],
    candidate_labels: Sequence[str],
    hypothesis_template: str | Sequence[str] | None = None,
    background_prompt: str = "",
) -> Calibration:
    """Calibrate "none of these" on validation images, for ``classifier(…, reject=calibration)``.

    Args:
        classifier: the classifier.
        images: n images, of the candidate labels and of others.
        labels: (n,) their labels; None, or a label that is no candidate, is none of these.
        candidate_labels, hypothesis_template, background_prompt: as in the calls to come.

    Returns:
        The scale and offset of the posterior; it does not depend on the order of the images.

    Raises:
        DataError: for labels that differ in number from the images.
        UsageError: if the images are all of the candidates, or all of other labels.
    """
    candidates, batch = check_labels(candidate_labels), as_list(images)
    if len(labels) != len(batch):
        raise DataError("images and labels differ in number", given=(len(batch), len(labels)))
    method = _method(
        classifier,
        classifier.prompts(candidates, _templates(hypothesis_template)),
        background_prompt,
    )
    results = classifier.scores(method, batch)
    place = {label: k for k, label in enumerate(candidates)}
    return fit_calibration(
        np.stack([result.scores for result in results]),
        np.array([result.background for result in results]),
        np.array([place.get(str(label), len(candidates)) for label in labels]),
        method.likelihood_scale,
    )


def predict_each_label(
    classifier: ZeroShotImageClassifier,
    batch: Sequence[Any],
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    threshold: float,
    background: str,
    timeout: float,
) -> list[Prediction]:
    """The probability of each label by itself, best first, of each image: σ(ℓ_k − τ).

    ℓ_k is the log-likelihood ratio of `diffcls.classifiers.multi_label`; labels of 0.5 or more are
    assigned.

    Args:
        classifier, batch, labels, templates, timeout: as for `predict_with_none`.
        threshold: τ, in nats, from `fit_label_threshold`.
        background: the background prompt; with ``{}``, the template of each label's negation.
    """
    odds = _log_odds(classifier, batch, labels, templates, background, timeout) - threshold
    return [
        [
            {"label": labels[k], "score": float(np.exp(-np.logaddexp(0.0, -row[k])))}
            for k in np.argsort(-row, kind="stable")
        ]
        for row in odds
    ]


def fit_label_threshold(
    classifier: ZeroShotImageClassifier,
    images: Any,
    present: Sequence[Collection[str]],
    candidate_labels: Sequence[str],
    hypothesis_template: str | Sequence[str] | None = None,
    background_prompt: str = "",
) -> float:
    """Fit the threshold of ``classifier(…, multi_label=True, threshold=…)`` on validation images.

    Args:
        classifier: the classifier.
        images: n images.
        present: (n,) the labels that each image has.
        candidate_labels, hypothesis_template, background_prompt: as in the calls to come.

    Raises:
        DataError: for labels that differ in number from the images, or are no candidates.
    """
    candidates, batch = check_labels(candidate_labels), as_list(images)
    others = sorted(frozenset[str]().union(*present) - set(candidates))
    if len(present) != len(batch) or others:
        raise DataError(
            "the labels present do not fit the images and the candidates",
            given=others or (len(batch), len(present)),
            allowed="for each image a collection of candidate labels",
        )
    templates = _templates(hypothesis_template)
    odds = _log_odds(classifier, batch, candidates, templates, background_prompt)
    truth = [[label in shown for label in candidates] for shown in present]
    return fit_threshold(np.array(truth), odds)


def _log_odds(
    classifier: ZeroShotImageClassifier,
    batch: Sequence[Any],
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    background: str,
    timeout: float = TIMEOUT_SECONDS,
) -> Float64:
    """(n, L) of n images."""
    from diffcls.classifiers.multi_label import label_log_odds, label_prompts

    own_negations = "{}" in background
    if own_negations and classifier.denoiser.labels is not None:
        raise UsageError(
            "a template of negations needs a text-conditional model",
            given=background,
            todo="remove background_prompt: the background is the model's null class",
        )
    prompts = classifier.prompts(labels, templates)
    if own_negations:
        prompts = label_prompts(labels, templates, background)
    method = _method(classifier, prompts, None if own_negations else background, every_label=True)
    return label_log_odds(method, classifier.scores(method, batch, timeout))


def _templates(given: str | Sequence[str] | None) -> tuple[str, ...]:
    from diffcls.api.zero_shot import TEMPLATE

    given = TEMPLATE if given is None else given
    return (given,) if isinstance(given, str) else tuple(given)


def _method(
    classifier: ZeroShotImageClassifier,
    prompts: PromptSet,
    background: str | None,
    every_label: bool = False,
) -> DiffusionMethod:
    """A method with a background prompt; that of the latest call stays encoded."""
    key = ("background", prompts.prompts, prompts.class_of, background, every_label)
    methods: dict[Any, DiffusionMethod] = classifier._methods
    with classifier._lock:
        if key not in methods:
            methods.clear()
            methods[key] = _made(classifier, prompts, background, every_label)
        return methods[key]


def _made(
    classifier: ZeroShotImageClassifier,
    prompts: PromptSet,
    background: str | None,
    every_label: bool,
) -> DiffusionMethod:
    from diffcls.classifiers.diffusion import DiffusionMethod

    search: Any = classifier.search
    if every_label:  # each label needs its own decision, so none is eliminated
        search = Exhaustive(getattr(search, "draws", DRAWS))
    elif getattr(search, "budget", None) is not None:
        raise UsageError(
            "reject needs all draws of the best label and the background, not a budget",
            given=f"budget={search.budget}",
            todo="limit the cost by draws",
        )
    return DiffusionMethod(
        classifier.denoiser,
        prompts,
        search,
        seed=classifier.seed,
        batch_size=classifier.batch_size,
        allocation=classifier.allocation,
        background=background,
    )
