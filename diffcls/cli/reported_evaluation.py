"""`diffcls.run_evaluation`: an evaluation with its report, from Python as from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffcls.cli.stored_command import options_of_command
from diffcls.evaluation.combinations import EvaluationArguments
from diffcls.evaluation.run import FailedRuns
from diffcls.evaluation.run import run_evaluation as evaluate
from diffcls.support.errors import UsageError
from diffcls.support.notices import warn
from diffcls.support.signatures import takes

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ReportedArguments(EvaluationArguments):
    """The arguments of `run_evaluation`.

    Args:
        report: write ``report.html`` about the runs into the output folder at the end. All others:
            see `diffcls.evaluation.combinations.EvaluationArguments`.
    """

    report: bool = False


@takes(ReportedArguments, dict)
def run_evaluation(arguments: Mapping[str, Any]) -> Rows:
    """Evaluate methods on data sets and put a row for each combination into the leaderboard.

    Args:
        arguments: the fields of `ReportedArguments`, as keyword arguments; they are the flags of
            ``python -m diffcls.evaluate``. Data set, model and seed may be lists: all combinations
            are checked before the first one starts. Arguments of the command's output, ``json``
            and ``json_format``, are checked and change nothing here.

    Returns:
        One row per combination, by data set, model, seed and method, its keys the leaderboard's
        columns; with ``published``, the published rows after them. With ``dry_run`` nothing is
        written, and each row is the resolved specification with the estimated cost.

    Raises:
        diffcls.evaluation.run.FailedRuns: after all others are done, where some of several
            combinations failed.
        DiffclsError: see `diffcls.support.errors`; the same call resumes an interrupted run.
    """
    options = dict(arguments)
    reported = check_report(options)
    try:
        rows = evaluate(**options)
    except FailedRuns as error:
        if reported and error.rows:
            warn(write_report(error.rows, options))
        raise
    if reported:
        warn(write_report(rows, options))
    return rows


def check_report(options: dict[str, Any]) -> bool:
    """Take ``report`` out of the options; refused before any work where there could be none."""
    reported = options.pop("report", False)
    if not isinstance(reported, bool):
        raise UsageError("--report takes no value", given=repr(reported), allowed="True, False")
    if reported:
        from diffcls.reports.page.evaluation import check_report

        check_report(options)
    return reported


def write_report(rows: Rows, options: Mapping[str, Any]) -> str:
    """Write the report of the rows' runs; returns the line about it."""
    from diffcls.reports.page.evaluation import report_of_rows

    return str(report_of_rows(rows, options, options_of_command))
