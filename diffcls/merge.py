"""``python -m diffcls.merge``: join shards that were scored without a common disk."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diffcls.cli import command, parser_of
from diffcls.cli.streams import FAILED
from diffcls.support.notices import warn
from diffcls.support.options import check_text

if TYPE_CHECKING:
    from diffcls.runs.merge import Merge

EPILOG = """Each DIR is an output folder of an evaluation. Records of one fingerprint become one run
of the folder --into, with its leaderboard row; neither the images nor the model are needed. A
folder may hold several runs, and --into may be one of the DIRs, or hold other runs.

The DIRs are only read, nothing in --into is overwritten, and a second merge changes nothing. A
merge that was interrupted is completed by the same command. Records of one image in several
folders must be equal, times aside; damaged lines are refused by file and line. Missing images,
and differences of batch shape, threads, device or versions, are printed.

Error tables (--save-errors), fits, and the tables of --reject and --multi-label are not merged.

examples:
  python -m diffcls.merge node-0/results node-1/results --into results
  python -m diffcls.merge node-*/results --into results --dry-run

exit status: 0 done, 1 images are missing or records cannot be merged, 2 bad usage, 130
interrupted; after 1 and 130 rerun the same command, with the missing folders."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `diffcls.runs.merge.merge_runs` documents them."""
    p = parser_of("merge", "Join the records of shards from several output folders.", EPILOG)
    add = p.add_argument
    add("folders", nargs="+", metavar="DIR", help="output folders of evaluations")
    add("--into", required=True, metavar="DIR", help="the folder that receives the merged runs")
    add("--dry-run", action="store_true", help="read and check everything, write nothing")
    add("--json", action="store_true", help="machine output on stdout")
    add("--quiet", action="store_true", help="print problems and the result alone")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    for name, values in (("DIR", flags.folders), ("--into", [flags.into])):
        for value in values:
            check_text(name, value)

    from diffcls.runs.merge import merge_runs

    merge = merge_runs(flags.folders, flags.into, dry_run=flags.dry_run)
    for note in merge.notes:
        warn(note)
    if not flags.quiet:
        for run in merge.runs:
            warn(str(run))
    if flags.json:
        print(json.dumps(merge.as_dict(), indent=2, allow_nan=False))
    else:
        _report(merge, flags.into, flags.dry_run)
    return 0 if merge.is_complete else FAILED


def _report(merge: Merge, into: str, dry_run: bool) -> None:
    from diffcls.reports.terminal import print_tables

    rows = [run.row for run in merge.runs if run.row is not None]
    if rows:
        print_tables(rows)
    for row in rows:
        written = "nothing was written" if dry_run else f"{into}/leaderboard.csv"
        print(f"{row['status']}: {written}, fingerprint {row['fingerprint']}")


if __name__ == "__main__":
    sys.exit(main())
