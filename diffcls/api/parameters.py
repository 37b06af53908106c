"""Limits of the estimator's parameters, which are checked by ``fit``, as scikit-learn wants it."""

from __future__ import annotations

import math
import os
from typing import Any

from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_COUNT, MAX_ROWS, MAX_SEED, Range

RANGES = {
    "seed": Range(0, MAX_SEED),
    "batch_size": Range(1, MAX_ROWS),
    "calibration_images": Range(0, MAX_COUNT),
    "temperature": Range(0, math.inf, whole=False, is_open=True),
}
OPTIONAL = {"temperature"}


def check_parameters(parameters: dict[str, Any]) -> None:
    """Check those parameters of `diffcls.DiffusionClassifier` that no other part checks.

    The options of a search, and the names of devices and data types, have checks of their own.

    Raises:
        UsageError: for a number out of range, anything but a text where a text is needed, or two
            temperatures.
    """
    for name, allowed in RANGES.items():
        value = parameters[name]
        if value not in allowed and not (value is None and name in OPTIONAL):
            # text: None is a value here, too
            raise UsageError(f"{name} out of range", given=_Shown(value), allowed=str(allowed))
    if not isinstance(parameters["model"], str | os.PathLike):
        raise _no_text("model", parameters["model"], "a bundled name, or a folder")
    if not isinstance(parameters["search"], str):
        raise _no_text("search", parameters["search"], "the name of a search")
    template = parameters["template"]
    texts = [template] if isinstance(template, str) else template
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise _no_text("template", template, "a text with one {}, or a list of these")
    if parameters["calibration_images"] and parameters["temperature"] is not None:
        raise UsageError(
            "temperature and calibration_images exclude each other",
            given=(parameters["temperature"], parameters["calibration_images"]),
            todo="leave temperature=None to fit it",
        )


class _Shown:
    """A value whose ``repr`` is shown in a message, None included."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def _no_text(name: str, value: Any, allowed: str) -> UsageError:
    return UsageError(f"{name} cannot be read", given=_Shown(value), allowed=allowed)
