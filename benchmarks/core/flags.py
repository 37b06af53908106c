"""Command-line flags that several benchmarks share, and the entry point of a benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from diffcls.cli import Parser, command
from diffcls.support.errors import unknown_name

REFERENCE = "results/reference"
"""Folder of the committed figures, the default of ``--output-dir``."""

Main = Callable[[Sequence[str]], int]


class HasDataset(Protocol):
    """A part of a benchmark that is identified by its data set."""

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        ...


Part = TypeVar("Part", bound=HasDataset)


def entry_point(body: Callable[[list[str]], int]) -> Main:
    """The ``main(arguments)`` of a benchmark: errors become one line and an exit status.

    Args:
        body: the benchmark; takes its arguments and returns the exit status.
    """
    return lambda arguments: command(body, arguments)


def parser(name: str, module_docstring: str | None) -> Parser:
    """The parser of a benchmark, with ``--output-dir``.

    Args:
        name: name of the benchmark in the registry.
        module_docstring: the docstring of its module; the first paragraph is the description.
    """
    summary = " ".join((module_docstring or "").partition("\n\n")[0].split())
    p = Parser(prog=f"benchmarks.run {name}", description=summary)
    p.add_argument(
        "--output-dir", default=REFERENCE, metavar="DIR", help=f"of the results ({REFERENCE})"
    )
    return p


def add_data_root(p: argparse.ArgumentParser) -> None:
    """Add ``--data-root``."""
    p.add_argument("--data-root", metavar="DIR", help="folder of local data sets")


def add_jobs(p: argparse.ArgumentParser) -> None:
    """Add ``--jobs``."""
    p.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="parallel processes, one thread each (1)"
    )


def add_datasets(p: argparse.ArgumentParser) -> None:
    """Add ``--only``, see `selected`."""
    p.add_argument("--only", nargs="+", metavar="DATASET", help="measure these data sets only")


def add_report_only(p: argparse.ArgumentParser) -> None:
    """Add ``--report-only``."""
    p.add_argument(
        "--report-only",
        action="store_true",
        help="write the page again from the stored table, without measuring",
    )


def selected(flags: argparse.Namespace, parts: Sequence[Part]) -> list[Part]:
    """The parts whose data sets ``--only`` names; all parts if it is not given.

    Raises:
        UsageError: for a name that is not among them.
    """
    known = [part.dataset for part in parts]
    for name in flags.only or ():
        if name not in known:
            raise unknown_name("benchmark", name, known)
    return [part for part in parts if part.dataset in (flags.only or known)]
