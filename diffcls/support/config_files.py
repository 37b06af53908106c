"""Configuration files of a command: YAML or TOML of its options' names.

Values are read as texts, as on a command line, so that they are checked exactly as flags are: YAML
would take ``500:1`` for 30001, ``0123`` for 83 and ``no`` for a boolean.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.support.errors import UsageError
from diffcls.support.paths import expand

if TYPE_CHECKING:
    import yaml

Value = bool | str | list[str]
"""A switch, the text of a value, or those of several."""

MAX_BYTES = 1_000_000


def read_config(path: str) -> dict[str, Value]:
    """The options in a configuration file, in its order.

    Args:
        path: file ``NAME.yaml``, ``NAME.yml`` or ``NAME.toml``; relative to the current folder.

    Returns:
        Each key as it is written -> its value.

    Raises:
        UsageError: for a file that cannot be read, another suffix, text that is not YAML or TOML, a
            key that is given twice, or a value that is no text, number, switch or list of these.
    """
    file = Path(expand(path))
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise UsageError("--config has an unknown suffix", given=path, allowed=[*READERS])
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UsageError("--config is too large", given=path, allowed=f"{MAX_BYTES:,} bytes")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise UsageError(f"--config cannot be read ({reason})", given=path) from error
    except UnicodeDecodeError as error:
        raise UsageError("--config is not valid UTF-8", given=path) from error
    return reader(text, path)


def _read_toml(text: str, path: str) -> dict[str, Value]:
    try:
        # numbers keep their text: 1e400 is no number, and 0.10 is not 0.1
        values = tomllib.loads(text, parse_float=str)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"--config is not TOML ({_line(error)})", given=path) from error
    return {key: _toml_value(key, value, path) for key, value in values.items()}


def _toml_value(key: str, value: Any, path: str) -> Value:
    if isinstance(value, list):
        return [str(_checked_text(key, _toml_value(key, one, path), path)) for one in value]
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return str(value)
    raise _no_value(key, path, "a table" if isinstance(value, dict) else type(value).__name__)


def _read_yaml(text: str, path: str) -> dict[str, Value]:
    import yaml

    try:
        # nodes, not objects: they keep the text of a value, and a key that is given twice
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"--config is not YAML ({_line(error)})", given=path) from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UsageError("--config has no keys", given=path, allowed="NAME: VALUE on each line")
    values: dict[str, Value] = {}
    for key_node, value_node in root.value:
        key = str(key_node.value)
        if not isinstance(key_node, yaml.ScalarNode):
            raise UsageError("--config has a key that is no text", given=path)
        if key in values:
            line = key_node.start_mark.line + 1
            raise UsageError(f"--config has a key twice, again in line {line}", given=key)
        values[key] = _yaml_value(key, value_node, path)
    return values


def _yaml_value(key: str, node: yaml.Node, path: str) -> Value:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [str(_checked_text(key, _yaml_value(key, one, path), path)) for one in node.value]
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if not isinstance(node, yaml.ScalarNode) or kind not in YAML_KINDS:
        raise _no_value(key, path, "a table" if isinstance(node, yaml.MappingNode) else node.tag)
    if kind == "null":
        raise UsageError(
            f"--config has no value of {key}",
            given=path,
            todo="write one, '~' in quotes for the home folder, or remove the key",
        )
    if kind == "bool":
        # `on` and `yes` are booleans without quotes: a text must not become one unseen
        return node.value.lower() in ("yes", "true", "on")
    return str(node.value)


def _checked_text(key: str, value: Value, path: str) -> Value:
    if isinstance(value, str):
        return value
    raise _no_value(key, path, "a boolean in a list; write texts as yes and on in quotes")


def _no_value(key: str, path: str, given: str) -> UsageError:
    return UsageError(
        f"--config: {key} is {given}, in {path}",
        allowed="a text, a number, true or false, or a list of texts and numbers",
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


YAML_KINDS = frozenset({"str", "int", "float", "bool", "null", "timestamp"})
READERS: Mapping[str, Callable[[str, str], dict[str, Value]]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".toml": _read_toml,
}
"""Suffix of a configuration file -> its reader."""
