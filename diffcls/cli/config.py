"""The flag ``--config FILE`` of all commands: the file's options as flags, which flags override."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from diffcls.support.config_files import Value, read_config
from diffcls.support.errors import UsageError
from diffcls.support.options import check_text

FLAG = "--config"
NOT_IN_FILES = frozenset({"help", "config"})
"""Flags that a configuration file cannot hold."""


def with_config(
    parser: argparse.ArgumentParser, flags: Mapping[str, argparse.Action], given: Sequence[str]
) -> list[str]:
    """The arguments with those of the file of ``--config``, if there is one, at their end.

    Args:
        parser: the command's parser, for messages.
        flags: each flag of the command -> its action.
        given: arguments of the command line; an option that they give is not taken from the file.

    Raises:
        UsageError: see `diffcls.support.config_files.read_config`; also for an unknown key, an
            option that the file names twice, or a value of another kind than the flag's.
    """
    rest, path = _taken(given)
    if path is None:
        return rest
    options: dict[str, str] = {}
    added: list[str] = []
    for key, value in read_config(path).items():
        flag, action = _find(parser, flags, key)
        if action.dest in options:
            raise UsageError(
                f"{FLAG} names an option twice", given=f"{options[action.dest]}, {key}"
            )
        options[action.dest] = key
        if action.dest not in set(_given(flags, rest)):
            added += _arguments(flag, action, key, value)
    end = rest.index("--") if "--" in rest else len(rest)
    return rest[:end] + added + rest[end:]


def _taken(given: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without ``--config FILE``, and FILE."""
    rest: list[str] = []
    paths: list[str] = []
    arguments = iter(given)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *arguments]
        elif flag == FLAG:
            path = value if equals else next(arguments, "-")
            if not equals and path.startswith("-"):
                raise UsageError(f"{FLAG}: expected one argument", allowed="a file")
            check_text(FLAG, path)
            paths.append(path)
        else:
            rest.append(argument)
    if len(paths) > 1:
        raise UsageError(f"{FLAG} is given twice", given=paths[1], todo="merge the files")
    return rest, paths[0] if paths else None


def _find(
    parser: argparse.ArgumentParser, flags: Mapping[str, argparse.Action], key: str
) -> tuple[str, argparse.Action]:
    name = key.replace("_", "-")
    flag = f"--{name}"
    known = {f[2:] for f, a in flags.items() if f.startswith("--") and a.dest not in NOT_IN_FILES}
    known = {one for one in known if not one.startswith("no-")}
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"{FLAG}: unknown key", given=key, todo=f"{meant}see {parser.prog} --help")
    return flag, flags[flag]


def _given(flags: Mapping[str, argparse.Action], arguments: Iterable[str]) -> Iterator[str]:
    """The options that arguments give."""
    for argument in arguments:
        if argument == "--":
            return
        action = flags.get(argument.partition("=")[0])
        if action is None and argument[:1] == "-" and argument[:2] != "--":
            action = flags.get(argument[:2])  # -b64
        if action is not None:
            yield action.dest


def _arguments(flag: str, action: argparse.Action, key: str, value: Value) -> list[str]:
    """An option of the file as arguments of the command line."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{FLAG}: {key} is a switch", given=value, allowed="true or false")
        off = [one for one in action.option_strings if one.startswith("--no-")]
        return [flag] if value else off[:1]
    if isinstance(value, bool):
        raise UsageError(
            f"{FLAG}: {key} is a boolean, as on and yes are in YAML",
            given=value,
            allowed="a text or a number",
            todo="write the text in quotes",
        )
    if isinstance(value, str):
        return [f"{flag}={value}"]
    if action.nargs is None:
        raise UsageError(f"{FLAG}: {key} takes one value", given=value)
    if not value:
        raise UsageError(f"{FLAG}: {key} is empty", given=value)
    # a value that begins with a hyphen would be taken for a flag
    texts = [one for one in value if one.startswith("-") and not one[1:2].isdigit()]
    if texts:
        raise UsageError(f"{FLAG}: {key} has a value that begins with a hyphen", given=texts[0])
    return [flag, *value]
