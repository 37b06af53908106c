"""``python -m diffcls.compare``: runs against one another, image by image."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from diffcls.cli import command, parser_of
from diffcls.support.options import check_text
from diffcls.support.paths import expand

EPILOG = """A RUN is a fingerprint, its first digits, or a filter COLUMN=VALUE of the leaderboard.
Filters on different columns must all hold; of several values of one column, any.

All runs are compared with the first one, or with --against, on the images that all of them scored:
accuracy, difference with its paired interval (Newcombe 1998, method 10), McNemar's exact test
(corrected by Holm's method for several comparisons), cost, and the classes and images on which
they differ. Runs over several seeds of one setting are also compared as a group.

examples:
  python -m diffcls.compare 3f2a91c0 b7d4
  python -m diffcls.compare dataset=cifar10 method=diffusion
  python -m diffcls.compare dataset=digits search=racing search=paper --csv differ.csv

exit status: 0 done, 1 records cannot be read, 2 bad usage or runs that cannot be compared."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `diffcls.runs.comparison.compare_runs` documents them."""
    p = parser_of("compare", "Compare stored runs of one data set, image by image.", EPILOG)
    add = p.add_argument
    runs = "fingerprints, their first digits, or filters such as method=diffusion"
    add("runs", nargs="+", metavar="RUN", help=runs)
    add("--against", metavar="RUN", help="the run that all others are compared with (the first)")
    add(
        "--output-dir", default="results", metavar="DIR", help="output folder of the runs (results)"
    )
    add("--csv", metavar="FILE", help="write the images on which the runs differ")
    add("--json", action="store_true", help="machine output on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)

    check_text("--output-dir", flags.output_dir)
    from diffcls.reports.comparison import check_csv, format_comparison, write_images
    from diffcls.runs.comparison import compare_runs

    table = None if flags.csv is None else Path(expand(flags.csv))
    if table is not None:
        check_text("--csv", flags.csv)
        check_csv(table)
    comparison = compare_runs(*flags.runs, output_dir=flags.output_dir, against=flags.against)
    if table is not None:
        write_images(table, comparison)
    if flags.json:
        print(json.dumps(comparison.as_dict(), indent=2, allow_nan=False))
    else:
        print(format_comparison(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
