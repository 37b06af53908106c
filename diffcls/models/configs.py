"""Configs of a model's parts: checked before the libraries read them.

The libraries take whatever a config holds: a text is as good as true, a wrong type shows in the
middle of a run, and a network of 10⁹ layers is built until memory ends. So the types are compared
with the defaults of the part's own class, and numbers with bounds that no published model reaches.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcls.models.json_files import is_number, read_json, wrong_value
from diffcls.support.errors import ModelError

BOUNDS = {
    "layers": 1024,
    "padding": 64,
    "kernel": 64,
    "sample_size": 4096,
    "image_size": 4096,
    "pos_embed_max_size": 4096,
}
"""Greatest whole number of an entry, by a part of its name; published networks have 57 layers."""
MAX_NUMBER = 2**21
"""Of any other whole number in a network's config; vocabularies have up to 256,000 tokens."""
MAX_CHARACTERS = 500
LISTS = ("trained_betas",)
"""Entries without a default to compare with, that are lists."""
ATTENTIONS = ("eager", "sdpa")
"""Attention implementations that are part of the libraries; others are downloaded or compiled."""
OWN_CODE = ("auto_map", "custom_pipelines")
"""Entries by which a model asks for code of its own."""
ELSEWHERE = ("transformers_weights", "adapter_config.json")
"""An entry, and a file, that make transformers read the weights of another place."""


def check_files(folder: Path) -> None:
    """Check the JSON files of a part before a library reads them.

    Raises:
        ModelError: for a file that is no JSON object, or that asks for code of its own, for weights
            of another place, or for an attention that is not part of the library.
    """
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith("."):
            continue
        if path.name in ELSEWHERE:
            raise ModelError(
                "weights of a part would be read from another place",
                given=str(path),
                todo="merge the adapter into the model, or choose it with --lora",
            )
        content = read_json(path)
        check_entries(path, content)


def check_entries(path: Path, config: Mapping[str, Any]) -> None:
    """Raise ModelError for a config that asks for code, or for files of another place."""
    for key, value in config.items():
        if key in OWN_CODE and value:
            raise ModelError(
                f"a config of the model asks for code of its own ({key})",
                given=str(path),
                allowed="parts of diffusers and transformers; code of a model is never run",
            )
        if key in ELSEWHERE and value is not None:
            raise wrong_value(path, key, value, "no such entry: weights are in the part's folder")
        implementation = value is not None and "attn_implementation" in key
        if implementation and value not in ATTENTIONS:
            raise wrong_value(path, key, value, " or ".join(ATTENTIONS))


def check_values(path: Path, config: Mapping[str, Any], kind: Any = None) -> None:
    """Check the types and bounds of a config's values.

    Args:
        path: the config, for messages.
        config: its content.
        kind: class of diffusers whose constructor takes the values; None: bounds only.

    Raises:
        ModelError: for a value of another type than the default of its parameter, a number that is
            not finite, or one that no published model reaches.
    """
    parameters: Mapping[str, inspect.Parameter] = {}
    if kind is not None:
        parameters = inspect.signature(kind.__init__).parameters
    for key, value in config.items():
        if key.startswith("_"):
            continue
        _check_bounds(path, key, value)
        if key in LISTS and not isinstance(value, list | None):
            raise wrong_value(path, key, value, "a list of numbers")
        if key in parameters:
            parameter = parameters[key]
            allowed = _mismatch(value, parameter.default)
            if isinstance(value, list) and isinstance(parameter.default, bool):
                # any list counts as true, where the class does not take one value a block
                allowed = allowed if "tuple" in str(parameter.annotation) else "true or false"
            if allowed is not None:
                raise wrong_value(path, key, value, allowed)


def check_images(
    path: Path, config: Mapping[str, Any], choices: Mapping[str, Sequence[str]]
) -> None:
    """Check how a config has images preprocessed, where it says so.

    Args:
        path: the config, for messages.
        config: its entries: ``mean`` and ``std`` of the channels, and those of `choices`.
        choices: entry -> its allowed values.

    Raises:
        ModelError: for anything but three numbers, or a value that is not allowed.
    """
    for key, least in (("mean", -1e3), ("std", 1e-6)):
        values = config.get(key, [0.5] * 3)
        good = isinstance(values, list) and len(values) == 3
        if not good or not all(is_number(v) and least <= v <= 1e3 for v in values):
            raise wrong_value(path, key, values, "three numbers, one a channel")
    for key, known in choices.items():
        if key in config and config[key] not in known:
            raise wrong_value(path, key, config[key], ", ".join(known))


def check_tokenizer(folder: Path) -> None:
    """Check what a tokenizer's files say of its vocabulary and of the length of a prompt.

    The tokenizers library takes an empty object or text, or nothing, for the list of merges; every
    word is then split into characters, and the prompts mean nothing to the model.

    Raises:
        ModelError: for merges that are no list, a vocabulary that is neither object nor list, or a
            greatest length that is no positive whole number.
    """
    path = folder / "tokenizer.json"
    model = read_json(path).get("model") if path.is_file() else None
    if isinstance(model, dict):  # anything else is refused by the library
        merges = model.get("merges")
        if not isinstance(merges, list) and ("merges" in model or model.get("type") == "BPE"):
            raise wrong_value(path, "merges", merges, "a list")
        if not isinstance(model.get("vocab"), dict | list):
            raise wrong_value(path, "vocab", model.get("vocab"), "an object, or a list")
    path = folder / "tokenizer_config.json"
    length = read_json(path).get("model_max_length", 1)
    whole = isinstance(length, int | float) and length == length and length >= 1
    if isinstance(length, bool) or not (length is None or (whole and length % 1 == 0)):
        raise wrong_value(path, "model_max_length", length, "a whole number from 1")


def _check_bounds(path: Path, key: str, value: object) -> None:
    """Raise ModelError for a number that no model needs, in lists and objects too."""
    if isinstance(value, dict):
        for inner, one in value.items():
            _check_bounds(path, inner, one)
    if isinstance(value, list):
        for one in value:
            _check_bounds(path, key, one)
    if isinstance(value, float) and value != value:
        raise wrong_value(path, key, value, "a number")
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        raise wrong_value(path, key, value, f"at most {MAX_CHARACTERS} characters")
    if not isinstance(value, int):
        return
    most = next((bound for name, bound in BOUNDS.items() if name in key), MAX_NUMBER)
    if abs(value) > most:
        raise wrong_value(path, key, value, f"at most {most:,}")


def _mismatch(value: object, default: object) -> str | None:
    """What a value should be, if it is of another JSON type than the default; else None.

    Null and lists (one value per block) are left to the library, whose constructor refuses them
    where they do not belong.
    """
    if value is None or default is None or default is inspect.Parameter.empty:
        return None
    if isinstance(default, tuple | list):
        if not isinstance(value, list):
            return "a list"
        kinds = [_mismatch(one, default[0]) for one in value if default]
        return next((f"a list, each {kind}" for kind in kinds if kind), None)
    if isinstance(value, list):
        each = "one value, or one a block"
        kinds = [each if one is None else _mismatch(one, default) for one in value] or [each]
        return next((kind for kind in kinds if kind), None)
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if number else "a number"
    if isinstance(default, str):
        return None if isinstance(value, str) else "a text"
    return None
