"""Rejection: a diffusion classifier that may answer "none of these".

The background prompt, the empty one unless a person names another, is a class of its own. Its
posterior and the statistic that decides are derived in
`diffcls.metrics.rejection.candidate_log_odds`; the scale and the offset are fitted on validation
images of classes that are among the candidates and of classes that are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from diffcls.classifiers.base import Built
from diffcls.classifiers.cached_fit import CachedFit, scores_defined_by
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.fit_images import load_for_fit
from diffcls.classifiers.labelled_data import check_classes, is_quiet
from diffcls.classifiers.options import ClassifierOptions
from diffcls.classifiers.rejection_options import CALIBRATION_SPLIT
from diffcls.classifiers.wrapping import WrappingMethod
from diffcls.data.class_ids import class_prompts
from diffcls.data.dataset import Dataset, Item
from diffcls.data.open_set import OpenSet, open_set
from diffcls.data.prompts import PromptSet
from diffcls.data.subsets import choose
from diffcls.metrics.rejection import Calibration, fit_calibration
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.cache import Arrays
from diffcls.support.errors import DataError
from diffcls.support.invariants import instance, known
from diffcls.support.progress import Progress
from diffcls.support.version import __version__

CALIBRATION_IMAGES = 200
"""Validation images, a stratified sample, on which the posterior is calibrated."""


class RejectingMethod(WrappingMethod):
    """A diffusion classifier whose last class is the background.

    Args:
        method: the classifier of the candidates, with a background prompt.
        calibrate: fits the scale and offset; it is called once, when they are first needed.
    """

    def __init__(self, method: DiffusionMethod, calibrate: Callable[[], Calibration]) -> None:
        super().__init__(method)
        self._calibrate = calibrate

    @cached_property
    def calibration(self) -> Calibration:
        """Scale and offset of the posterior."""
        return self._calibrate()

    @property
    def posterior_scale(self) -> float:
        """The fitted scale, see `diffcls.metrics.rejection.Calibration`."""
        return self.calibration.scale

    @property
    def candidate_scale(self) -> float:
        """Scale of the posterior of the candidates alone, of the model's card."""
        return self.method.likelihood_scale

    def check(self, items: Sequence[Item]) -> None:
        """See `diffcls.classifiers.base.Method`; on images of the candidates alone."""
        count = self.method.prompts.n_classes
        self.method.check([item for item in items if item.label < count])

    def classify(self, items: Iterable[Item]) -> Iterator[ClassScores]:
        """Scores of the candidates and of the background, calibrated and last."""
        calibration = self.calibration
        for result in self.method.classify(items):
            yield result if result.error else with_background(result, calibration)


def with_background(result: ClassScores, calibration: Calibration) -> ClassScores:
    """The scores and ranking of K candidates and the background, class K.

    The order of the candidates is that of their own race.
    """
    background = np.array([known(result.background)])
    scores = calibration.with_background(result.scores[None], background)[0]
    ahead = int((result.scores[result.ranking] >= scores[-1]).sum())
    ranking = np.insert(result.ranking, ahead, len(result.scores))
    return replace(result, scores=scores, ranking=ranking)


def calibrate(method: DiffusionMethod, items: Sequence[Item], quiet: bool = False) -> Calibration:
    """Fit the scale and offset on images labelled 0 to K − 1, or K for none of the candidates.

    Args:
        method: the classifier of the candidates, with a background prompt.
        items: the images.
        quiet: whether no progress is shown.

    Raises:
        DataError: if no image can be scored.
        UsageError: if the images are all of the candidates, or all of other classes.
    """
    labels = {item.image_id: item.label for item in items}
    # in the order of the images, whatever order they complete in
    place = {item.image_id: i for i, item in enumerate(items)}
    results = []
    with Progress(len(items), "calibrating", quiet=quiet) as progress:
        for result in method.classify(items):
            progress.update()
            if result.error is None:
                results.append(result)
    results.sort(key=lambda result: place[result.image_id])
    if not results:
        raise DataError("no validation image can be scored", todo="check the validation split")
    return fit_calibration(
        np.stack([result.scores for result in results]),
        np.array([result.background for result in results]),
        np.array([labels[result.image_id] for result in results]),
        method.likelihood_scale,
    )


def with_rejection(built: Built, options: ClassifierOptions, seed: int) -> Built:
    """The classifier with "none of these" as its last class, calibrated when it is needed.

    The fit is stored in the output folder under all that defines it. Test images are not read.

    Args:
        built: the classifier of the candidates, with a background prompt.
        options: options of the evaluation.
        seed: seed of the withheld labels.
    """
    method = instance(built.method, DiffusionMethod)
    data, subset = validation_images(options, seed)
    _check_candidates(data, built.prompts, options)
    rejection = {
        "background": options.background_prompt or "",
        "withheld": list(data.withheld),
        "calibration": [data.revision, data.split, subset],
    }
    cached = CachedFit(
        options.output_dir,
        "rejection",
        {**rejection, "version": __version__, **scores_defined_by(built, options)},
        len(data) * built.most_evaluations,
        method,
    )

    def fit() -> Arrays:
        found = calibrate(method, data.items, is_quiet(options))
        return {"scale": np.array(found.scale), "offset": np.array(found.offset)}

    def stored() -> Calibration:
        arrays = cached.arrays(fit)
        return Calibration(float(arrays["scale"]), float(arrays["offset"]))

    return replace(
        built,
        method=RejectingMethod(method, stored),
        rejection=json.dumps(rejection, sort_keys=True, ensure_ascii=False),
        fitting=cached.fitting,
    )


def class_ids_of_candidates(
    options: ClassifierOptions, labels: Sequence[str], prompts: PromptSet
) -> PromptSet:
    """The class ids of the candidates, from those of all classes of the data set.

    Where a file or the order of the classes assigns them, an index counts the withheld classes.

    Args:
        options: options of the evaluation, with ``reject``.
        labels: names of the model's classes by id, see `diffcls.data.class_ids.class_prompts`.
        prompts: the candidates.
    """
    if any(labels) and options.class_ids is None:
        return class_prompts(prompts.class_names, labels)
    data, _ = validation_images(options, options.seed)
    _check_candidates(data, prompts, options)
    return data.candidates(class_prompts(data.whole.class_names, labels, options.class_ids))


def _check_candidates(data: OpenSet, prompts: PromptSet, options: ClassifierOptions) -> None:
    check_classes(data.split, data.class_names[:-1], options.split, prompts.class_names)


def validation_images(options: ClassifierOptions, seed: int) -> tuple[OpenSet, str]:
    """The images of the calibration with their open-set labels, and their subset's name.

    Raises:
        UsageError, DataError: if the data set has no validation split.
    """
    whole: Dataset = load_for_fit(options, CALIBRATION_SPLIT, "--reject")
    data, subset = choose(whole, limit=min(CALIBRATION_IMAGES, len(whole)))
    return open_set(data, seed), subset


def options_of(rejection: str) -> dict[str, Any]:
    """The background, the withheld labels and the calibration images of a run's specification."""
    read: dict[str, Any] = json.loads(rejection)
    return read
