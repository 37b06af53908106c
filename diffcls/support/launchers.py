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
        started: variable that holds a number in processes that the launcher started; without it,
            the others only describe the job.
    """

    index: str
    count: str
    first: str = ""
    step: str = ""
    started: str = ""

    def describes(self, environment: Mapping[str, str]) -> bool:
        """Whether its variables are set, and of this process.

        Raises:
            UsageError: for an index or count that is no whole number.
        """
        if self.started and not STEP.fullmatch(environment.get(self.started, "")):
            return False
        values = [integer_variable(environment, name) for name in (self.index, self.count)]
        return None not in values

    def shown(self, environment: Mapping[str, str]) -> str:
        """Its variables with their values."""
        names = (self.index, self.count, self.first, self.step)
        return " ".join(f"{n}={environment[n]}" for n in names if n in environment)


STEP = re.compile(r"[0-9]{1,9}")
"""Ids of the steps that srun starts. SLURM's batch script has ``SLURM_PROCID=0`` and the job's
``SLURM_NTASKS`` too, although it is a single process: it has no step id, or in some versions, as
interactive shells have, a reserved one of 4,294,967,280 or more."""


LAUNCHERS = (
    Launcher("RANK", "WORLD_SIZE"),
    Launcher(
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_COUNT",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_STEP",
    ),
    Launcher("SLURM_PROCID", "SLURM_NTASKS", started="SLURM_STEP_ID"),
)


def launcher_of(environment: Mapping[str, str]) -> Launcher | None:
    """The launcher that describes this process; None without one.

    Args:
        environment: environment variables.

    Raises:
        UsageError: for a variable that is no whole number.
    """
    return next((one for one in LAUNCHERS if one.describes(environment)), None)


def process_of(environment: Mapping[str, str]) -> tuple[int, int]:
    """(i, n): the index of this process, from 0, and their number; (0, 1) without a launcher.

    Args:
        environment: environment variables.

    Raises:
        UsageError: for a variable that is no whole number, or an index outside 0 <= i < n.
    """
    launcher = launcher_of(environment)
    if launcher is None:
        return 0, 1
    index = integer_variable(environment, launcher.index) or 0
    count = integer_variable(environment, launcher.count) or 0
    first = integer_variable(environment, launcher.first) or 0
    step = integer_variable(environment, launcher.step)
    step = 1 if step is None else step
    position, rest = divmod(index - first, step) if step else (-1, 0)
    if rest or not 0 <= position < count:
        raise UsageError(
            f"{launcher.index} describes no process of several",
            given=launcher.shown(environment),
            allowed="evenly spaced indices, as many as there are processes",
            todo="unset the variable, or name the part with --shard i/n",
        )
    return position, count


def check_alone(flag: str, environment: Mapping[str, str]) -> None:
    """Refuse to be one of several processes, each of which would do the whole work.

    Args:
        flag: what is not divided among processes.
        environment: environment variables.

    Raises:
        UsageError: for one of several processes, and see `process_of`.
    """
    launcher = launcher_of(environment)
    if launcher is not None and process_of(environment)[1] > 1:
        raise UsageError(
            f"{flag} is not divided among processes: each would do the whole work",
            given=launcher.shown(environment),
            allowed="one process",
            todo=f"start one, without a launcher, or unset {launcher.count} for work of its own",
        )


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
