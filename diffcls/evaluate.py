"""``python -m diffcls.evaluate``: evaluate classifiers on a data set."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence

from diffcls.cli import command, parser_of
from diffcls.cli.evaluate_flags import add_evaluate_flags
from diffcls.evaluation.options import EvaluationOptions
from diffcls.support.options import flag_of
from diffcls.support.redaction import redacted

DEFAULTS = EvaluationOptions()
PUBLISHED_WITHOUT_EFFECT = ("extra", "load_stats")
"""Flags of the published script: a run is known by its fingerprint, and always resumes."""

EPILOG = """examples:
  python -m diffcls.evaluate                            the bundled digits
  python -m diffcls.evaluate --limit 100 --search exhaustive --draws 50
  python -m diffcls.evaluate --dataset folder:photos --model path/to/pipeline
  python -m diffcls.evaluate --dataset pets --model sd2-base --search paper
  python -m diffcls.evaluate --dataset pets --data-root data --limit 100 --budget 2h
  python -m diffcls.evaluate --dataset digits pets --model sd2-base sd15 --seed 0 1 2

exit status: 0 done, also a shard that finished its part; 1 failed or partial, 2 bad usage or input,
130 interrupted; after 1 and 130 rerun the same command to resume."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; they are documented in
    `diffcls.evaluation.options.EvaluationOptions`.
    """
    description = "Evaluate a classifier on a data set: accuracy with its interval, and its cost."
    p = parser_of("evaluate", description, EPILOG, argument_default=argparse.SUPPRESS)
    add_evaluate_flags(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    options = vars(parser().parse_args(arguments))
    command = redacted(shlex.join(["python", "-m", "diffcls.evaluate", *arguments]))

    from diffcls.cli.reported_evaluation import check_report, write_report
    from diffcls.evaluation.multi_label import describe
    from diffcls.evaluation.results import failed_images
    from diffcls.evaluation.run import FailedRuns, run_evaluation
    from diffcls.support.notices import warn

    without_effect = [flag_of(name) for name in PUBLISHED_WITHOUT_EFFECT if name in options]
    if without_effect:
        warn(f"{' '.join(without_effect)}: accepted as published, without effect here")
    reported = check_report(options)
    failures: dict[str, str] = {}
    try:
        table = run_evaluation(**options, command=command)
    except FailedRuns as error:
        table, failures = error.rows, error.failures
    has_format = options.get("json_format", DEFAULTS.json_format) != DEFAULTS.json_format
    is_json = has_format or options.get("json") or options.get("dry_run")
    if has_format:
        from diffcls.reports.run_formats import as_json

        print(as_json(table, options["json_format"]))
    elif is_json:
        print(json.dumps(table, indent=2, allow_nan=False))
    elif options.get("multi_label"):
        print("\n".join(describe(table)))
    else:
        _report(table, options.get("output_dir", DEFAULTS.output_dir))
    if reported and table:
        # its line stays off stdout where that is JSON
        (warn if is_json else print)(write_report(table, options))
    for row in table:
        if row.get("source") == "measured" and failed_images(row):
            warn(f"{failed_images(row)} images could not be scored; their records say why")
    for run, message in failures.items():
        warn(f"failed: {run}: {message}")
    return 1 if failures else 0


def _report(rows: list[dict[str, object]], output_dir: str) -> None:
    from diffcls.reports.terminal import print_tables

    print_tables(rows)
    for row in (row for row in rows if row["source"] == "measured"):
        print(f"{row['status']}: {output_dir}/leaderboard.csv, fingerprint {row['fingerprint']}")


if __name__ == "__main__":
    sys.exit(main())
