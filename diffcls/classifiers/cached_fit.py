"""Cached fit of a diffusion classifier: what defines its errors, and what the fit costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from diffcls.classifiers.base import Built, Method
from diffcls.classifiers.fitting import FitCost, Fitting
from diffcls.classifiers.model_memory import changes_of_numbers
from diffcls.classifiers.options import ClassifierOptions
from diffcls.support.cache import Arrays, fitted, is_fitted


@dataclass(frozen=True)
class CachedFit:
    """Arrays that are fitted by evaluations, stored in the output folder.

    Args:
        output_dir: output folder of the run.
        kind: kind of the fit, the first part of the file's name.
        defined_by: everything that defines the arrays, in plain JSON types.
        evaluations: evaluations of the fit, at most or about.
        method: the classifier that makes them.
    """

    output_dir: str
    kind: str
    defined_by: Mapping[str, Any]
    evaluations: int
    method: Method

    def arrays(self, make: Callable[[], Arrays]) -> Arrays:
        """The stored arrays, else those that `make` returns; see `diffcls.support.cache.fitted`."""
        return fitted(self.output_dir, self.kind, self.defined_by, make)

    @property
    def fitting(self) -> Fitting:
        """Whether the arrays are stored, and the cost of the fit if they are not."""
        is_done = partial(is_fitted, self.output_dir, self.kind, self.defined_by)
        return Fitting(is_done, self._cost)

    def _cost(self) -> FitCost:
        batches = -(-self.evaluations // self.method.batch_size)
        return FitCost(self.evaluations, 0, batches * self.method.seconds_per_batch())


def errors_defined_by(built: Built, options: ClassifierOptions) -> dict[str, Any]:
    """What defines the errors of a classifier beside its model and search, in plain JSON types."""
    return {
        "prompts": [list(built.prompts.prompts), list(built.prompts.class_of)],
        "errors": [built.loss, options.weighting, built.allocation, built.noise, options.seed],
        "images": [built.img_size, options.interpolation or built.interpolation, built.dtype],
        **changes_of_numbers(options),
    }


def scores_defined_by(built: Built, options: ClassifierOptions) -> dict[str, Any]:
    """What defines the scores of a classifier: errors, model with its temperature, and search."""
    return {
        "model": [built.card.name, built.card.revision, built.card.temperature],
        "search": [built.search, dict(built.search_options), options.aggregate],
        **errors_defined_by(built, options),
    }
