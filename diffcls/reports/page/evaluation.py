"""The report at the end of an evaluation: ``evaluate --report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffcls.evaluation.options import EvaluationOptions
from diffcls.reports.page.build import PAGE, Report, write_report
from diffcls.reports.page.files import check_page
from diffcls.reports.page.options import ReportOptions
from diffcls.reports.page.stored_options import CommandReader
from diffcls.reports.page.svg import check_extra
from diffcls.support.errors import UsageError
from diffcls.support.paths import expand

WITHOUT_REPORT = {
    "dry_run": "a dry run scores no image",
    "multi_label": "runs with several labels per image have no answers to report",
}
"""Options of an evaluation that leave nothing to report -> why."""


def check_report(options: Mapping[str, object]) -> None:
    """Refuse ``--report`` before any work, where there could be none in the end.

    Args:
        options: the evaluation's options that were given.

    Raises:
        UsageError: for a missing extra, an option without records, or a page that something else
            made.
    """
    for name, reason in WITHOUT_REPORT.items():
        if options.get(name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"--report has no effect with {flag}: {reason}", todo="remove one")
    check_extra()
    page = _folder(options) / PAGE
    if page.parent.is_dir():  # else: the evaluation makes it
        check_page(page)


def report_of_rows(
    rows: Sequence[Mapping[str, object]],
    options: Mapping[str, object],
    read_command: CommandReader,
) -> Report:
    """Write the report of an evaluation's measured rows.

    Args:
        rows: rows of the leaderboard.
        options: the evaluation's options that were given.
        read_command: see `diffcls.reports.page.stored_options.options_of`.
    """
    runs = [str(row["fingerprint"]) for row in rows if row.get("source") == "measured"]
    return write_report(ReportOptions(output_dir=str(_folder(options)), runs=runs), read_command)


def _folder(options: Mapping[str, object]) -> Path:
    default = EvaluationOptions.__dataclass_fields__["output_dir"].default
    return expand(Path(str(options.get("output_dir", default))))
