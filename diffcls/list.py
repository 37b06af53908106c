"""``python -m diffcls.list``: data sets, models, methods, searches, samplers and stored runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from diffcls.cli import command, parser_of
from diffcls.cli.streams import notify
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.options import check_text, shortened
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

EPILOG = """Licence, size and gating are those that the project knows; anything else is `unknown`.
Sizes of models on the Hub are those of the local cache. Nothing is downloaded.

examples:
  python -m diffcls.list datasets
  python -m diffcls.list models --json
  python -m diffcls.list runs --output-dir results

exit status: 0 done, 1 the leaderboard cannot be read, 2 bad usage."""


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = parser_of("list", "List what there is to choose from, or the stored runs.", EPILOG)
    p.add_argument("kind", metavar="KIND", help=f"{', '.join(KINDS)}; or the singular")
    folder = "of runs: the output folder (results)"
    p.add_argument("--output-dir", metavar="DIR", help=folder)
    p.add_argument("--json", action="store_true", help="machine output on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    kind = kind_of(flags.kind)
    if kind != "runs" and flags.output_dir is not None:
        raise UsageError(
            "--output-dir is of `list runs`", given=flags.output_dir, todo="remove --output-dir"
        )
    if flags.output_dir is not None:
        check_text("--output-dir", flags.output_dir)
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
