"""Answers against a background prompt: "none of these", and several labels per image."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcls.api.call_arguments import templates_of
from diffcls.api.inputs import as_list
from diffcls.api.prediction_stream import Prediction
from diffcls.classifiers.background import check_prompts, prompts_hash
from diffcls.data.open_set import NONE_OF_THESE
from diffcls.data.prompts import PromptSet, check_labels
from diffcls.metrics.calibration import posterior
from diffcls.metrics.multi_label import fit_threshold
from diffcls.metrics.rejection import Calibration, fit_calibration
from diffcls.search.exhaustive import Exhaustive
from diffcls.support.errors import DataError, UsageError

if TYPE_CHECKING:
    from diffcls.api.prompt_scorer import PromptScorer
    from diffcls.classifiers.diffusion import DiffusionMethod
    from diffcls.scoring.class_scores import ClassScores

DRAWS = 20
"""Draws of each label, of a search that does not set their number."""
Predict = Callable[["ClassScores"], Prediction]


@dataclass(frozen=True)
class Background:
    """What a call asks for against a background prompt.

    Args:
        calibration: of "none of these", from `calibrate_rejection`; None: the temperature of the
            model's card, and the background's prior odds equal to those of each label.
        multi_label: whether each label is scored by itself instead.
        threshold: τ of `multi_label`, in nats, from `fit_label_threshold`.
        prompt: the background prompt, "" for the empty one; with ``{}``, which `multi_label` alone
            allows, the template of each label's negation.
    """

    calibration: Calibration | None
    multi_label: bool
    threshold: float
    prompt: str


def background_of(
    reject: bool | Calibration, multi_label: bool, threshold: float, background_prompt: str
) -> Background | None:
    """The background of a call's arguments; None for a call that compares the labels alone.

    Raises:
        UsageError: for both at once, an argument without effect, or a value out of range.
    """
    if not isinstance(reject, bool | Calibration):
        raise UsageError(
            "reject cannot be read", given=reject, allowed="True, False or a calibration"
        )
    if not isinstance(multi_label, bool):
        raise UsageError("multi_label cannot be read", given=multi_label, allowed="True or False")
    if reject and multi_label:
        raise UsageError(
            "reject and multi_label exclude each other",
            given="both",
            todo="remove one: with multi_label, no label of 0.5 or more means none of these",
        )
    if not isinstance(background_prompt, str):
        raise UsageError("background_prompt is no text", given=background_prompt, allowed="a text")
    if isinstance(threshold, bool) or not (
        isinstance(threshold, Real) and math.isfinite(threshold)
    ):
        raise UsageError("threshold is no finite number", given=threshold, allowed="nats")
    if threshold and not multi_label:
        raise UsageError(
            "threshold has no effect without multi_label=True",
            given=threshold,
            todo="remove it, and compare the scores of the answer with it",
        )
    if not reject and not multi_label:
        if background_prompt:
            raise UsageError(
                "background_prompt has no effect without reject or multi_label",
                given=background_prompt,
                todo="add reject=True or multi_label=True",
            )
        return None
    calibration = reject if isinstance(reject, Calibration) else None
    return Background(calibration, multi_label, float(threshold), background_prompt)


def decision(
    classifier: PromptScorer,
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    background: Background,
) -> tuple[DiffusionMethod, Predict]:
    """The method of a call with a background prompt, and its answer from the scores of an image.

    Raises:
        UsageError: for a label named as the background class is, or as `check_background`.
    """
    if background.multi_label:
        method = _method_of_each_label(classifier, labels, templates, background.prompt)
        return method, partial(_each_label, method, labels, background.threshold)
    if NONE_OF_THESE in labels:
        raise UsageError(
            "a label has the name of the background class", given=NONE_OF_THESE, todo="rename it"
        )
    method = _method(classifier, classifier.prompts(labels, templates), background.prompt)
    calibration = background.calibration or Calibration(method.likelihood_scale, 0.0)
    check_prompts(calibration, prompts_hash(method.denoiser, method.prompts, background.prompt))
    return method, partial(_with_none, (*labels, NONE_OF_THESE), calibration)


def _with_none(names: Sequence[str], calibration: Calibration, result: ClassScores) -> Prediction:
    """The posterior over the labels and `NONE_OF_THESE`, best first.

    Its equation stands in `diffcls.metrics.rejection.candidate_log_odds`.
    """
    scores = calibration.with_background(result.scores[None], np.array([result.background]))
    p = posterior(scores[0], calibration.scale)
    order = np.argsort(-scores[0], kind="stable")
    return [{"label": names[k], "score": float(p[k])} for k in order]


def _each_label(
    method: DiffusionMethod, labels: Sequence[str], threshold: float, result: ClassScores
) -> Prediction:
    """The probability of each label by itself, best first: σ(ℓ_k − τ).

    ℓ_k is the log-likelihood ratio of `diffcls.classifiers.multi_label`.
    """
    from diffcls.classifiers.multi_label import label_log_odds

    odds = label_log_odds(method, [result])[0] - threshold
    order = np.argsort(-odds, kind="stable")
    return [
        {"label": labels[k], "score": float(np.exp(-np.logaddexp(0.0, -odds[k])))} for k in order
    ]


def calibrate_rejection(
    classifier: PromptScorer,
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
        The scale and offset of the posterior, whatever the order of the images. A call warns where
        its model, prompts or background prompt are others.

    Raises:
        DataError: for labels that differ in number from the images.
        UsageError: if the images are all of the candidates, or all of other labels.
    """
    candidates, batch = check_labels(candidate_labels), as_list(images)
    if len(labels) != len(batch):
        raise DataError("images and labels differ in number", given=(len(batch), len(labels)))
    method = _method(
        classifier,
        classifier.prompts(candidates, _templates(classifier, hypothesis_template)),
        background_prompt,
    )
    results = classifier.scores(method, batch, classifier.web_access)
    place = {label: k for k, label in enumerate(candidates)}
    fitted = fit_calibration(
        np.stack([result.scores for result in results]),
        np.array([result.background for result in results]),
        np.array([place.get(str(label), len(candidates)) for label in labels]),
        method.likelihood_scale,
    )
    return replace(fitted, of=prompts_hash(method.denoiser, method.prompts, background_prompt))


def fit_label_threshold(
    classifier: PromptScorer,
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
    wrong = [f"{one!r}" for one in present if isinstance(one, str) or not isinstance(one, Iterable)]
    if wrong:
        raise DataError("labels present of an image are no list", given=wrong[0])
    given = [frozenset(shown) for shown in present]  # a series contains its index, not its values
    others = sorted(map(str, frozenset[str]().union(*given).difference(candidates)))
    if len(present) != len(batch) or others:
        raise DataError(
            "the labels present do not fit the images and the candidates",
            given=others or (len(batch), len(present)),
            allowed="for each image a collection of candidate labels",
        )
    from diffcls.classifiers.multi_label import label_log_odds

    templates = _templates(classifier, hypothesis_template)
    method = _method_of_each_label(classifier, candidates, templates, background_prompt)
    odds = label_log_odds(method, classifier.scores(method, batch, classifier.web_access))
    truth = [[label in shown for label in candidates] for shown in given]
    return fit_threshold(np.array(truth), odds)


def _method_of_each_label(
    classifier: PromptScorer,
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    background: str,
) -> DiffusionMethod:
    from diffcls.classifiers.multi_label import label_prompts

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
    return _method(classifier, prompts, None if own_negations else background, every_label=True)


def _templates(classifier: PromptScorer, given: str | Sequence[str] | None) -> tuple[str, ...]:
    return templates_of(classifier.hypothesis_template if given is None else given)


def _method(
    classifier: PromptScorer,
    prompts: PromptSet,
    background: str | None,
    every_label: bool = False,
) -> DiffusionMethod:
    """A method with a background prompt; that of the latest call stays encoded."""
    own = (classifier.seed, classifier.batch_size)
    key = ("background", prompts.prompts, prompts.class_of, background, every_label, *own)
    with classifier._lock:
        classifier._follow()
        methods: dict[Any, DiffusionMethod] = classifier._methods
        if key not in methods:
            methods.clear()
            methods[key] = _made(classifier, prompts, background, every_label)
        return methods[key]


def _made(
    classifier: PromptScorer, prompts: PromptSet, background: str | None, every_label: bool
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
