"""Carried-over fit: the regression of a learned screen, from a file of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.data.prompts import PromptSet
from diffcls.diffusion.parameterization import stored_weighting
from diffcls.support.cache import Arrays, read_arrays
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.hashing import hash_file

ALLOWED = "OUTPUT_DIR/fits/learned-*.npz of an earlier run"
OF_ITS_CLASSES = ("defined_by", "caution", "survival", "calibration_images", "settings")
"""Arrays of a file that are not carried over; earlier versions wrote ``settings``."""


@dataclass(frozen=True)
class CarriedFit:
    """A regression that was fitted on other classes.

    Args:
        arrays: arrays of the file that are carried over.
        source: hash of the file.
        images: keys of the images of its regression, see
            `diffcls.classifiers.unlabelled_data.UnlabelledImages`.
    """

    arrays: Arrays
    source: str
    images: frozenset[str]

    @property
    def prompts(self) -> PromptSet:
        """Prompts of the classes on which the regression was fitted."""
        names, texts, class_of = json.loads(str(self.arrays["prompts"]))
        return PromptSet(tuple(names), tuple(texts), tuple(class_of))


def carried_fit(path: str, settings: Mapping[str, Any]) -> CarriedFit:
    """The regression in a file of an earlier run.

    Args:
        path: value of ``--fit``.
        settings: `regression_settings` of this run.

    Raises:
        UsageError: for a file that does not exist, is of another kind, or was fitted with other
            settings: its features and errors would be others than those of this run.
    """
    if not Path(path).is_file():
        raise UsageError("--fit: file not found", given=path, allowed=ALLOWED)
    try:
        arrays = read_arrays(Path(path), "--fit")
    except RecordError:  # whose advice, to delete the file, is for the cache
        arrays = {}
    fitted = _settings_in(arrays)
    for name in OF_ITS_CLASSES:
        arrays.pop(name, None)
    if fitted is None or not {"axes", "prompts", "fitted_on"} <= set(arrays):
        raise UsageError(
            "--fit is not the whole fit of a learned screen of this version",
            given=path,
            allowed=ALLOWED,
        )
    other = [name for name in settings if fitted.get(name) != settings[name]]
    if other:
        raise UsageError(
            f"--fit was made with another {' and '.join(other)}",
            given=_shown(fitted, other),
            allowed=_shown(settings, other),
        )
    images = frozenset(json.loads(str(arrays["fitted_on"])))
    return CarriedFit(arrays, hash_file(path), images)


def regression_settings(defined_by: Mapping[str, Any]) -> dict[str, Any]:
    """What a regression depends on beside classes and images, by names for messages.

    Features and errors are those of the model on its probed draws; in another precision they differ
    by rounding alone.

    Args:
        defined_by: what defines a fit: ``version``, ``model``, ``search``, and
            `diffcls.classifiers.cached_fit.errors_defined_by`.
    """
    loss, weighting, allocation, noise, seed = defined_by["errors"]
    size, interpolation, _ = defined_by["images"]
    return {
        "version": defined_by["version"],
        "model": " ".join(defined_by["model"]),
        "loss": loss,
        "weighting": stored_weighting(weighting),
        "allocation": allocation,
        "noise": noise,
        "seed": seed,
        "image size": size,
        "interpolation": interpolation,
        "draws": defined_by["search"]["draws"],
    }


def _settings_in(arrays: Arrays) -> dict[str, Any] | None:
    """`regression_settings` of a file's arrays; None for a file that is no such fit."""
    try:
        return regression_settings(json.loads(str(arrays["defined_by"])))
    except (KeyError, TypeError, ValueError):
        return None


def _shown(settings: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {settings.get(name)}" for name in names)
