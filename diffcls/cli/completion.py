"""Shell completion: a script for bash, zsh or tcsh that completes commands, flags and names.

The script is written once and holds all names; completing a word starts no Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping

from diffcls.support.errors import UsageError, unknown_name

SHELLS = ("bash", "zsh", "tcsh")
FLAG = "--print-completion"


def print_completion(
    shell: str, parsers: Mapping[str, argparse.ArgumentParser], summaries: Mapping[str, str]
) -> None:
    """Print the completion script of ``diffcls``.

    Args:
        shell: one of `SHELLS`.
        parsers: each command -> its parser, which receives the names of its flags' values.
        summaries: each command -> what it does, in a few words.

    Raises:
        UsageError: for another shell, or where shtab is not installed.
    """
    if shell not in SHELLS:
        raise unknown_name("shell", shell, SHELLS)
    try:
        import shtab
    except ImportError:
        raise UsageError(
            f"{FLAG} needs the package shtab", todo='pip install "diffcls[completion]"'
        ) from None
    root = argparse.ArgumentParser(prog="diffcls", description="zero-shot classification")
    root.add_argument("--version", action="store_true", help="show the version")
    root.add_argument(FLAG, choices=SHELLS, help="print the completion script of a shell")
    commands = root.add_subparsers(title="commands")
    for name, parser in parsers.items():
        commands.add_parser(name, help=summaries.get(name, ""))
        commands.choices[name] = parser
        for action in parser._actions:
            _complete(name, action, {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY})
    print(shtab.complete(root, shell=shell))


def _complete(command: str, action: argparse.Action, paths: Mapping[str, object]) -> None:
    """Give an action the names of its values, or the kind of its path."""
    if action.nargs == 0 or action.choices is not None:
        return
    if action.help not in (None, argparse.SUPPRESS):
        # zsh would take what is in braces or brackets for its own syntax
        action.help = str(action.help).replace("{}", "").replace("%", "%%").replace("%%%%", "%%")
    names = NAMES.get(f"{command} {action.dest}") or NAMES.get(action.dest)
    if names is not None:
        action.choices = list(names())
    elif action.metavar in paths:
        action.complete = paths[str(action.metavar)]  # type: ignore[attr-defined]


def _datasets() -> Iterable[str]:
    from diffcls.data.catalog import PREFIXES, SPECS

    return [*SPECS, *(f"{prefix}:" for prefix in PREFIXES)]


def _models() -> Iterable[str]:
    from diffcls.models.hub_names import MODELS
    from diffcls.models.loading import bundled

    return [*bundled(), *MODELS]


def _clip_models() -> Iterable[str]:
    from diffcls.models.clip import bundled

    return bundled()


def _methods() -> Iterable[str]:
    from diffcls.classifiers import METHODS

    return METHODS


def _searches() -> Iterable[str]:
    from diffcls.search import SEARCHES

    return SEARCHES


def _samplers() -> Iterable[str]:
    from diffcls.generation.samplers import SAMPLERS

    return SAMPLERS


def _kinds_of_training() -> Iterable[str]:
    from diffcls.training.kinds import TRAININGS

    return TRAININGS


def _losses() -> Iterable[str]:
    from diffcls.diffusion.parameterization import BOUND_LOSSES, LOSSES

    return [*LOSSES, *BOUND_LOSSES]


def _weightings() -> Iterable[str]:
    from diffcls.diffusion.parameterization import WEIGHTINGS

    return WEIGHTINGS


def _allocations() -> Iterable[str]:
    from diffcls.diffusion.timestep_allocation import names

    return names()


def _references() -> Iterable[str]:
    from diffcls.classifiers.reference import KINDS

    return KINDS


def _votes() -> Iterable[str]:
    from diffcls.search.aggregation import VOTES

    return VOTES


def _aggregates() -> Iterable[str]:
    from diffcls.data.prompts import AGGREGATES

    return AGGREGATES


def _resizings() -> Iterable[str]:
    from diffcls.data.transforms import RESIZINGS

    return RESIZINGS


def _dtypes() -> Iterable[str]:
    from diffcls.models.devices import DTYPES

    return DTYPES


NAMES: Mapping[str, Callable[[], Iterable[str]]] = {
    "dataset": _datasets,
    "model": _models,
    "train model": _kinds_of_training,
    "clip_model": _clip_models,
    "method": _methods,
    "search": _searches,
    "sampler": _samplers,
    "loss": _losses,
    "weighting": _weightings,
    "allocation": _allocations,
    "reference": _references,
    "vote": _votes,
    "aggregate": _aggregates,
    "interpolation": _resizings,
    "dtype": _dtypes,
    "combine": lambda: ("clip",),
    "split": lambda: ("test", "validation", "train"),
    "device": lambda: ("auto", "cpu", "cuda", "mps"),
}
"""Option, or command and option -> the names of its values."""
