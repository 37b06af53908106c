"""``python -m diffcls.list``: data sets, models, methods, searches, samplers and stored runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffcls.cli import command, parser_of
from diffcls.cli.streams import notify
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.options import check_text, flag_of, shortened
from diffcls.support.paths import expand
from diffcls.support.registry import Registry

KINDS = Registry(
    "kind of thing to list",
    {
        "datasets": "diffcls.reports.inventory:datasets",
        "models": "diffcls.reports.model_inventory:models",
        "methods": "diffcls.reports.inventory:methods",
        "searches": "diffcls.reports.inventory:searches",
        "samplers": "diffcls.reports.inventory:samplers",
        "runs": "diffcls.reports.run_inventory:runs",
    },
)
"""Kind -> a function that returns its entries, one mapping each."""
SINGULAR = {"search": "searches"}
"""Singular of a kind where it is not the plural without its s."""

FORMATS = ("clip_benchmark", "model-index")

EPILOG = """Licence, size and gating are those that the project knows; anything else is `unknown`.
Sizes of models on the Hub are those of the local cache. Nothing is downloaded.

examples:
  python -m diffcls.list datasets
  python -m diffcls.list models --json
  python -m diffcls.list runs --output-dir results
  python -m diffcls.list runs --format model-index
  python -m diffcls.list runs --clip-benchmark folder/of/results

exit status: 0 done, 1 the leaderboard cannot be read, 2 bad usage."""


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = parser_of("list", "List what there is to choose from, or the stored runs.", EPILOG)
    p.add_argument("kind", metavar="KIND", help=f"{', '.join(KINDS)}; or the singular")
    folder = "of runs: the output folder (results)"
    p.add_argument("--output-dir", metavar="DIR", help=folder)
    p.add_argument("--json", action="store_true", help="machine output on stdout")
    forms = f"of runs: {' or '.join(FORMATS)}"
    p.add_argument("--format", metavar="F", help=forms)
    beside = "of runs: results of CLIP_benchmark to print after the rows, as published"
    p.add_argument("--clip-benchmark", metavar="PATH", help=beside)
    p.add_argument("--save", action="store_true", help="put these into leaderboard.csv, too")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    kind = kind_of(flags.kind)
    _check(flags, kind)
    if flags.format:
        from diffcls.reports.run_formats import as_text

        print(as_text(flags.output_dir or "results", flags.format))
        return 0
    if flags.clip_benchmark:
        _print_beside(flags)
        return 0
    entries_of = KINDS.load(kind)
    entries: list[dict[str, Any]] = (
        entries_of(flags.output_dir or "results") if kind == "runs" else entries_of()
    )
    if flags.json:
        print(json.dumps(entries, indent=2, allow_nan=False))
        return 0

    from diffcls.reports.inventory_table import format_entries, problems

    print(format_entries(entries))
    for line in problems(entries):
        notify(line)
    return 0


def _check(flags: argparse.Namespace, kind: str) -> None:
    """Refuse values that are not allowed, and flags without effect."""
    for name in ("output_dir", "format", "clip_benchmark", "save"):
        value, flag = getattr(flags, name), flag_of(name)
        if kind != "runs" and value:
            raise UsageError(f"{flag} is of `list runs`", given=value, todo=f"remove {flag}")
        if isinstance(value, str):
            check_text(flag, value)
    if flags.format and flags.format not in FORMATS:
        raise unknown_name("--format", shortened(flags.format), FORMATS)
    for name in ("json", "clip_benchmark"):
        if flags.format and getattr(flags, name):
            raise UsageError(f"--format and {flag_of(name)} exclude each other")
    if flags.save and not flags.clip_benchmark:
        raise UsageError("--save has no effect without --clip-benchmark", todo="remove --save")


def _print_beside(flags: argparse.Namespace) -> None:
    """The measured rows, then the results of CLIP_benchmark."""
    from diffcls.reports.run_formats import LEADERBOARD, measured_rows
    from diffcls.reports.terminal import print_tables
    from diffcls.runs.clip_benchmark import read_results, skipped_text

    output_dir = flags.output_dir or "results"
    imported = read_results(flags.clip_benchmark)
    rows: list[Any] = [*measured_rows(output_dir), *imported.rows]
    if flags.save:
        from diffcls.runs.leaderboard import put_published

        put_published(Path(expand(output_dir)) / LEADERBOARD, imported.rows)
    if flags.json:
        print(json.dumps(rows, indent=2, allow_nan=False))
    else:
        print_tables(rows)
    if imported.skipped:
        notify(skipped_text(imported.skipped))


def kind_of(text: str) -> str:
    """The plural of a kind, given in the plural or the singular.

    Raises:
        UsageError: for another word.
    """
    name = text.lower()
    plural = SINGULAR.get(name, name if name in KINDS else f"{name}s")
    if plural not in KINDS:
        raise unknown_name("kind of thing to list", shortened(text), KINDS)
    return plural


if __name__ == "__main__":
    sys.exit(main())
