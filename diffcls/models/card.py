"""Card of a model, ``diffcls.json``: facts stored together with the weights, checked on reading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffcls.data.seen_images import file_in
from diffcls.diffusion.parameterization import LEARNED, learned_weight
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.diffusion.timestep_allocation import EVEN, names, read_allocation
from diffcls.models.denoiser import ModelCard
from diffcls.models.json_files import is_count, is_number, is_text, read_json, wrong_value
from diffcls.support.errors import ModelError, UsageError

CARD = "diffcls.json"
TEMPERATURES = (1e-6, 1e6)
"""Least and greatest temperature: fitted ones lie between 0.1 and 10."""
MAX_IMAGES = 10**15
MAX_SIDE, MAX_WIDTH = 4096, 4096


def read_stored(folder: Path) -> Mapping[str, Any]:
    """The content of a folder's card, with all types checked; empty without a card.

    Raises:
        ModelError: for an entry of another type, or a value that no model can have.
    """
    path = folder / CARD
    if not path.is_file():
        return {}
    stored = read_json(path)
    _check(path, stored)
    return stored


def card_of(stored: Mapping[str, Any], folder: Path, name: str | None = None) -> ModelCard:
    """The card, without its revision.

    Args:
        stored: return value of `read_stored`.
        folder: the model's folder, whose name is that of a card without one.
        name: name that goes before the card's own.
    """
    return ModelCard(
        name=name or stored.get("name") or folder.resolve().name,
        revision="",
        temperature=float(stored.get("temperature", 1.0)),
        allocation=read_allocation(stored.get("allocation", EVEN)),
        trained_on=tuple(stored.get("trained_on", ())),
        labels=tuple(stored.get("labels", ())),
        seen_images=file_in(folder),
    )


def _check(path: Path, stored: Mapping[str, Any]) -> None:
    def require(key: str, fits: bool, allowed: str) -> None:
        if key in stored and not fits:
            raise wrong_value(path, key, stored[key], allowed)

    def get(key: str) -> Any:
        return stored.get(key)

    least, greatest = TEMPERATURES
    for key in ("name", "trained_with", "measured_on"):
        require(key, is_text(get(key), 255) and bool(get(key).strip()), "a text in one line")
    temperature = get("temperature")
    require(
        "temperature",
        is_number(temperature) and least <= temperature <= greatest,
        f"a number from {least:g} to {greatest:g}",
    )
    for key in ("trained_on", "labels"):
        require(key, _is_list(get(key), is_text), "a list of texts")
    require(
        "shape",
        _is_list(get("shape"), lambda side: is_count(side, MAX_SIDE) and side > 0)
        and len(get("shape")) == 3,
        "a list of three numbers, channels, height and width",
    )
    for key in ("recipe", "continued_from"):
        require(key, isinstance(get(key), dict), "an object")
        part = stored.get(key, {})
        if "images" in part and not is_count(part["images"], MAX_IMAGES):
            raise wrong_value(path, f"{key}.images", part["images"], "a whole number")
    images = get("images")
    require("images", images is None or is_count(images, MAX_IMAGES), "a whole number")
    recipe = stored.get("recipe", {})
    widths = recipe.get("widths")
    if "widths" in recipe and not (widths and _is_list(widths, _is_width)):
        raise wrong_value(path, "recipe.widths", widths, "a list of multiples of 8")
    if "allocation" in stored:
        _check_allocation(path, stored["allocation"])


def _is_list(value: object, fits: Any) -> bool:
    return isinstance(value, list) and all(map(fits, value))


def _is_width(value: object) -> bool:
    return is_count(value, MAX_WIDTH) and isinstance(value, int) and value > 0 and value % 8 == 0


def _check_allocation(path: Path, allocation: object) -> None:
    # the package's own, or numbers in the card: a file would be one of another place
    if not isinstance(allocation, str) or not (
        allocation in names() or allocation.startswith(LEARNED)
    ):
        raise wrong_value(path, "allocation", allocation, ", ".join(names()))
    try:
        text = read_allocation(allocation)
        with np.errstate(over="ignore"):  # an infinite sum is refused below
            density = None if text == EVEN else learned_weight(text, NoiseSchedule.scaled_linear())
        if density is not None and not 0 < density.sum() < math.inf:
            raise ValueError("no density")
    except (UsageError, ValueError) as error:
        raise ModelError(f"'allocation' in {path} is wrong ({error})") from error
