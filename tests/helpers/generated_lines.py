"""Generator of bad command lines: bad values for every flag of every command, from its parser."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator

from helpers.command_lines import Line

from diffcls.__main__ import COMMANDS

FIXED = {
    "evaluate": "--limit 2 --draws 2 --threads 1 --quiet --no-check-model --output-dir {OUT}/out",
    "generate": "--class 7 --count 1 --steps 2 --threads 1 --quiet --output-dir {OUT}/out",
    "likelihood": "--limit 2 --levels 2 --threads 1 --quiet --output-dir {OUT}/out",
    "fidelity": "--count 20 --steps 2 --threads 1 --quiet --metrics FID --output-dir {OUT}/out",
    "train": "--images 64 --batch-size 8 --threads 1 --quiet --output-dir {OUT}/out",
    "replay": "{IN}/tables --vote mean",
    "compare": "dataset=digits --output-dir {OUT}/out",
    "merge": "{OUT}/none --into {OUT}/out",
    "report": "dataset=digits --rescore 0 --output-dir {OUT}/out",
    "list": "runs --output-dir {OUT}/out",
    "explain": "{IN}/photos/a/0.png --labels one two --draws 2 --output-dir {OUT}/out",
    "demo": "--model digits",
    "checkpoints": "digits --limit 2 --draws 2 --threads 1 --quiet --output-dir {OUT}/out",
}
"""Sound arguments of each command, which would do little work."""

HUGE = str(10**30)
WRONG_TEXTS = ("", " ", "\t", "a\nb", "a\rb", "a\x1b[0mb", "a\0b", "\udcff\udcfe")
WRONG_NUMBERS = ("abc", "nan", "inf", "-inf", "0x10", "1_000", "٣", "１２", " 5", "5 ", "1,5")
WRONG_NUMBERS += ("-1", "-9223372036854775809", HUGE, f"-{HUGE}", "+-1", "None", "True", "1e999")
WRONG_WHOLE = ("1.5", "1e3", "9223372036854775808")
WRONG_NAMES = ("nosuch", "x" * 5000, "../no/such", "{}", "%s%n", "None")
FREE = frozenset({"extra", "output_dir", "save_errors", "prompts", "csv"})
"""Options whose value may be any name, or in `generate` any text."""
FROM_ZERO = frozenset({"seed", "worker_idx", "guidance", "guide_weight", "port", "read_timeout"})


def generated_lines() -> list[Line]:
    """The lines of all commands, in the order of their flags."""
    return [line for name in COMMANDS for line in _lines(name)]


def _lines(command: str) -> Iterator[Line]:
    module = importlib.import_module(COMMANDS[command].partition(":")[0])
    parser: argparse.ArgumentParser = module.parser()
    for action in parser._actions:
        flags = [flag for flag in action.option_strings if flag.startswith("--")]
        if not flags or action.dest == "help":
            continue
        fixed = _without(FIXED[command].split(), {*action.option_strings, *_rivals(action)})
        for value in _values(action):
            yield Line(command, (*fixed, f"{flags[0]}={value}"))
        if action.nargs == "+":
            yield Line(command, (*fixed, flags[0]))


def _rivals(action: argparse.Action) -> set[str]:
    """Flags that the tested one excludes."""
    if action.dest in ("subset", "indices"):
        return {"--limit"}
    return {"--class"} if action.dest in ("prompts", "interpolate") else set()


def _without(words: list[str], flags: set[str]) -> list[str]:
    """Arguments without some flags and their values."""
    kept: list[str] = []
    skip = False
    for word in words:
        if word.startswith("--"):
            skip = word in flags
        if not skip:
            kept.append(word)
    return kept


def _values(action: argparse.Action) -> Iterator[str]:
    if action.nargs == 0:
        yield from ("", "1", "yes", "nosuch")
        return
    yield from WRONG_TEXTS
    if action.type in (int, float):
        yield from WRONG_NUMBERS
        if action.type is int:
            yield from WRONG_WHOLE
        if action.dest not in FROM_ZERO:
            yield "0"
    elif action.dest not in FREE:
        # "{}" is a sound template
        yield from (name for name in WRONG_NAMES if (action.dest, name) != ("template", "{}"))
