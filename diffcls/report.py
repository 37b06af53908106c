"""``python -m diffcls.report``: one HTML page about stored runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from diffcls.cli import command, parser_of
from diffcls.support.options import check_text, read

EPILOG = """A RUN is a fingerprint, its first digits, or a filter COLUMN=VALUE of the leaderboard,
as of `diffcls.compare`; without any, all runs of the output folder are reported.

The page is one file that loads nothing else: leaderboard beside the published figures, paired
tests against any run, and for each run its wrong and least certain images, confusion, calibration
and cost. Thumbnails need the data set; elimination order and errors by timestep need error tables:
those of --save-errors, or of a few images that are scored once more. Nothing is downloaded.

examples:
  python -m diffcls.report
  python -m diffcls.report dataset=digits --csv
  python -m diffcls.report 3f2a91c0 --data-root data --rescore 50 --output wrong.html
  python -m diffcls.report dataset=fashion_mnist --counterfactuals 3

exit status: 0 done, 1 records cannot be read, 2 bad usage."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `diffcls.reports.page.options.ReportOptions` documents them."""
    p = parser_of("report", "Write a report of stored runs as one HTML file.", EPILOG)
    add = p.add_argument
    runs = "fingerprints, their first digits, or filters such as method=diffusion (all runs)"
    add("runs", nargs="*", metavar="RUN", help=runs)
    folder = "output folder of the runs (results)"
    add("--output-dir", default="results", metavar="DIR", help=folder)
    add("--output", metavar="FILE", help="the page (DIR/report.html)")
    add("--csv", action="store_true", help="write errors.csv and the tables beside the page")
    count = "images of each run to score once more at most; 0: none (24, within a minute)"
    add("--rescore", type=int, metavar="N", help=count)
    edited = "first N wrong images to edit until the model is right; seconds to minutes each (0)"
    add("--counterfactuals", type=int, metavar="N", help=edited)
    add("--errors", nargs="+", metavar="DIR", help="folders of --save-errors")
    add("--data-root", metavar="DIR", help="folder of local data, instead of the runs' own")
    add("--json", action="store_true", help="machine output on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = vars(parser().parse_args(arguments))
    as_json = flags.pop("json")
    given = {name: value for name, value in flags.items() if value is not None and name != "config"}
    for name in ("output_dir", "output", "data_root"):
        if name in given:
            check_text(f"--{name.replace('_', '-')}", given[name])

    from diffcls.cli.stored_command import options_of_command
    from diffcls.reports.page.build import write_report
    from diffcls.reports.page.options import ReportOptions

    report = write_report(read(ReportOptions, given), options_of_command)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
