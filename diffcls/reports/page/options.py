"""Options of a report: one field per flag of ``python -m diffcls.report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffcls.support.options import MAX_COUNT, check_values, within
from diffcls.support.paths import UserPath, expand_fields


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """The flags of ``python -m diffcls.report``.

    Args:
        output_dir: the output folder of the evaluations.
        runs: fingerprints, their first digits, or filters, as of `diffcls.compare`; none: all runs.
        output: the page; None: ``report.html`` in the output folder.
        csv: write the tables as CSV files beside the page.
        rescore: images of each run to score once more for their error tables, at most; 0: none;
            None: a few, as long as the times in the records add up to a minute at most.
        counterfactuals: wrong images of the page, in its order, that are edited until their run's
            model is right, at most; each takes seconds to minutes, once.
        errors: folders of ``--save-errors``, beside those that the runs name.
        data_root: folder of the images, instead of the runs' own.

    Raises:
        UsageError: for a value that is not allowed.
    """

    output_dir: UserPath = "results"
    runs: Sequence[str] = ()
    output: UserPath | None = None
    csv: bool = False
    rescore: int | None = within(0, MAX_COUNT)
    counterfactuals: int = within(0, MAX_COUNT, 0)
    errors: Sequence[str] = ()
    data_root: UserPath | None = None

    def __post_init__(self) -> None:
        check_values(self)
        expand_fields(self)
