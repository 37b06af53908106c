"""Environment variables of torchrun and SLURM: the index of this process among several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from diffcls.support.errors import UsageError


@dataclass(frozen=True)
class Launcher:
    """Variables in which a launcher of several processes describes them.

    Args:
        index: index of the process.
        count: number of processes.
        first, step: first index if it is not 0, and distance of the indices if it is not 1.
    """

    index: str
    count: str
    first: str = ""
    step: str = ""


LAUNCHERS = (
    Launcher("RANK", "WORLD_SIZE"),
    Launcher(
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_COUNT",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_STEP",
    ),
    Launcher("SLURM_PROCID", "SLURM_NTASKS"),
)


def process_of(environment: Mapping[str, str]) -> tuple[int, int]:
    """(i, n): the index of this process, from 0, and their number; (0, 1) without a launcher.

    Args:
        environment: environment variables.

    Raises:
        UsageError: for a variable that is no whole number, or an index outside 0 <= i < n.
    """
    for launcher in LAUNCHERS:
        index = integer_variable(environment, launcher.index)
        count = integer_variable(environment, launcher.count)
        if index is None or count is None:
            continue
        first = integer_variable(environment, launcher.first) or 0
        step = integer_variable(environment, launcher.step)
        step = 1 if step is None else step
        position, rest = divmod(index - first, step) if step else (-1, 0)
        if rest or not 0 <= position < count:
            names = (launcher.index, launcher.count, launcher.first, launcher.step)
            given = " ".join(f"{n}={environment[n]}" for n in names if n in environment)
            raise UsageError(
                f"{launcher.index} describes no process of several",
                given=given,
                allowed="evenly spaced indices, as many as there are processes",
                todo="unset the variable, or name the part with --shard i/n",
            )
        return position, count
    return 0, 1


LOCAL_INDICES = ("LOCAL_RANK", "SLURM_LOCALID")
"""Variables of torchrun and SLURM with the index of a process among those of its machine."""


def local_index_of(environment: Mapping[str, str]) -> int:
    """Index of this process among those of its machine, from 0; 0 without a launcher.

    Args:
        environment: environment variables.

    Raises:
        UsageError: for a variable that is no whole number.
    """
    indices = [integer_variable(environment, name) for name in LOCAL_INDICES]
    return next((index for index in indices if index is not None), 0)


def integer_variable(environment: Mapping[str, str], name: str) -> int | None:
    """The whole number in an environment variable; None if the variable is not set.

    Raises:
        UsageError: for any other text, such as an empty one.
    """
    text = environment.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UsageError(
            f"environment variable {name} cannot be read",
            given=text,
            allowed="a whole number, as torchrun and SLURM set it",
            todo=f"unset {name}, or correct it",
        )
    return int(text)
