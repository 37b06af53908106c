"""Result of a comparison of runs, as values that JSON can hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

METHODS = {
    "accuracy": "Wilson's score interval (1927), 95 %",
    "difference": "Newcombe's paired score interval (1998, method 10), 95 %",
    "p_value": "McNemar's exact test, two-sided",
    "p_holm": "the same, corrected by Holm (1979) for the number of comparisons",
    "groups": "mean over seeds; images are resampled (BCa bootstrap, 95 %) or their signs flipped",
}
"""Statistical method of each figure."""


@dataclass(frozen=True)
class RunFigures:
    """A run, on the images that all runs scored.

    Args:
        fingerprint, method, search, model, setting, seed, status: as on the leaderboard.
        n_asked: images of the run; None for a whole split before the run's first row.
        n_scored, n_failed: images with scores, and with an error, in its records.
        n_correct, accuracy, ci_low, ci_high: on the shared images; Wilson's interval, 95 %.
        evaluations_per_image: on the shared images.
        differs_in: fields of the specification that differ from those of the first run.
    """

    fingerprint: str
    method: str
    search: str
    model: str
    setting: str
    seed: str
    status: str
    n_asked: int | None
    n_scored: int
    n_failed: int
    n_correct: int
    accuracy: float
    ci_low: float
    ci_high: float
    evaluations_per_image: float
    differs_in: list[str]


@dataclass(frozen=True)
class ClassChange:
    """A class of which two runs classify different numbers of images correctly.

    Args:
        index, name: the class.
        n: its shared images.
        before, after: number of correct ones of the run compared with, and of this run.
    """

    index: int
    name: str
    n: int
    before: int
    after: int

    @property
    def change(self) -> int:
        """Number of correct images gained; negative: lost."""
        return self.after - self.before


@dataclass(frozen=True)
class Difference:
    """A run against another one, on the same images.

    Args:
        fingerprint, against: the run, and the one that it is compared with.
        difference: its accuracy minus the other's.
        ci_low, ci_high: Newcombe's paired score interval, 95 %.
        n_gained, n_lost: images that only this run, or only the other one, classifies correctly.
        n_same_answer: images with the same answer, correct or not.
        p_value: McNemar's exact test.
        cost_ratio: its evaluations divided by the other's; None where either takes none.
        classes_gained, classes_lost: see `ClassChange`, the greatest change first.
        p_holm: p-value corrected for the number of comparisons.
    """

    fingerprint: str
    against: str
    difference: float
    ci_low: float
    ci_high: float
    n_gained: int
    n_lost: int
    n_same_answer: int
    p_value: float
    cost_ratio: float | None
    classes_gained: list[ClassChange]
    classes_lost: list[ClassChange]
    p_holm: float = 1.0

    def with_correction(self, p_holm: float) -> Difference:
        """The same with its corrected p-value."""
        return replace(self, p_holm=p_holm)


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ in their seed alone, against those of the first run's setting.

    Args:
        fingerprints, seeds: its runs.
        accuracy: mean over seeds.
        ci_low, ci_high: 95 %, images resampled with the results of all seeds; None if undefined.
        lowest, highest: accuracies of single seeds.
        difference: mean accuracy minus that of the first group; None for the first group itself.
        difference_low, difference_high: as `ci_low`, `ci_high`.
        p_value, p_holm: sign-flip test over images, and corrected for the number of groups.
    """

    fingerprints: list[str]
    seeds: list[str]
    accuracy: float
    ci_low: float | None
    ci_high: float | None
    lowest: float
    highest: float
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class ImageAnswers:
    """An image on which runs differ.

    Args:
        image_id: the image.
        label: index of its class.
        answers: (R,) index of each run's best class.
        probabilities: (R,) posterior of each run's answer and of the label; None if not defined.
        names: names of the classes; empty where each image has candidates of its own.
    """

    image_id: str
    label: int
    answers: list[int]
    probabilities: list[tuple[float, float] | None]
    names: Sequence[str] = field(default=(), repr=False, compare=False)

    def name_of(self, k: int) -> str:
        """Name of a class; its index where each image has candidates of its own."""
        return self.names[k] if self.names else str(k)


@dataclass(frozen=True)
class Comparison:
    """Runs of one data set, compared on the images that all of them scored.

    Args:
        dataset, split, n_classes: what was classified, among how many classes per image.
        n_shared: images that all runs scored, on which all figures are.
        n_images: images of any run.
        runs: the runs; the first one is the one that all others are compared with.
        differences: the others against the first one, in their order.
        groups: runs of the same setting with several seeds; empty without any.
        images: the shared images on which answers differ.
    """

    dataset: str
    split: str
    n_classes: int
    n_shared: int
    n_images: int
    runs: list[RunFigures]
    differences: list[Difference]
    groups: list[SeedGroup]
    images: list[ImageAnswers]

    def as_dict(self) -> dict[str, Any]:
        """The comparison in plain JSON types; fractions are 0 to 1."""
        plain = dataclasses.asdict(self)
        plain["images"] = [
            {
                "image_id": image.image_id,
                "label": image.label,
                "answers": image.answers,
                "probabilities": [None if p is None else list(p) for p in image.probabilities],
            }
            for image in self.images
        ]
        return {**plain, "methods": dict(METHODS)}
