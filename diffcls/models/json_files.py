"""JSON files of models: read whole, and with the types that the package relies on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffcls.support.errors import ModelError

LONGEST_SHOWN = 100
"""Characters of a value that an error message shows."""


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON file that contains one object.

    Raises:
        ModelError: if it is missing, or contains anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ModelError("a file of the model is nested too deeply", given=str(path)) from error
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no JSON, numbers without end
        raise ModelError(f"cannot read a file of the model ({error})", given=str(path)) from error
    if not isinstance(content, dict):
        raise ModelError("a file of the model is not a JSON object", given=str(path))
    return content


def shortened(value: object) -> object:
    """A JSON value as an error message shows it: long texts and numbers are cut off."""
    text = str(value)
    return value if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def wrong_value(path: Path, key: str, value: object, allowed: str) -> ModelError:
    """The error for an entry of a model's JSON file."""
    return ModelError(f"{shortened(key)!r} in {path} is wrong", shortened(value), allowed)


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number; true and false are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return isinstance(value, int) or math.isfinite(value)


def is_count(value: object, most: int) -> bool:
    """Whether a JSON value is a whole number from 0 to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_text(value: object, longest: int = 1000) -> bool:
    """Whether a JSON value is text in one line: no control characters, no lone surrogates."""
    return (
        isinstance(value, str)
        and len(value) <= longest
        and not any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in value)
    )
