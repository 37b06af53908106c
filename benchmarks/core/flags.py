"""Flags of the benchmarks that go over several data sets."""

from __future__ import annotations

import argparse
import shlex
import subprocess
from collections.abc import Sequence
from typing import Protocol, TypeVar

from diffcls.cli import Parser
from diffcls.support.errors import RecordError, unknown_name


class OfDataset(Protocol):
    """A benchmark that is known by its data set."""

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        ...


One = TypeVar("One", bound=OfDataset)


def parser(name: str, says: str) -> Parser:
    """``--only --output-dir --data-root --jobs`` of the benchmark `name`.

    Args:
        name: of the file.
        says: what it measures, a line.
    """
    p = Parser(prog=f"benchmarks.{name}", description=says)
    p.add_argument("--only", nargs="+", metavar="DATASET", help="these benchmarks")
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--data-root", metavar="DIR", help="where local data lie")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time, a core each")
    return p


def chosen(flags: argparse.Namespace, benchmarks: Sequence[One]) -> list[One]:
    """The benchmarks that ``--only`` names; all without it.

    Raises:
        UsageError: for a name that is not among them.
    """
    known = [one.dataset for one in benchmarks]
    for name in flags.only or ():
        if name not in known:
            raise unknown_name("benchmark", name, known)
    return [one for one in benchmarks if one.dataset in (flags.only or known)]


def said_by(arguments: Sequence[str]) -> str:
    """What a command prints, which is run in a process of its own.

    Raises:
        RecordError: where it fails.
        KeyboardInterrupt: where it was stopped.
    """
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise RecordError(
            f"a run ended with status {done.returncode}",
            given=shlex.join(arguments),
            todo="see what it said above; what was done before is kept",
        )
    return done.stdout
