"""Selection of stored runs: by fingerprint, by its first digits, or by columns such as
``dataset=digits``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence

from diffcls.data.catalog import ALIASES
from diffcls.data.class_names import shorten
from diffcls.runs.stored import DamagedRun, StoredRun, StoredRuns, damaged_error
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.options import shortened

logger = logging.getLogger(__name__)

# fmt: off
FILTERS = (
    "dataset", "split", "n_classes", "method", "model", "revision", "search", "setting",
    "supervision", "seed", "status", "device", "dtype", "commit",
)
# fmt: on
"""Columns of the leaderboard that a filter may name."""
FINGERPRINT = re.compile(r"[0-9a-fA-F]+")


def select(stored: StoredRuns, given: Sequence[str]) -> list[StoredRun]:
    """The runs that fingerprints and filters select, each once.

    Args:
        stored: all runs of an output folder.
        given: fingerprints, first digits of one, and filters ``COLUMN=VALUE`` in any order. Filters
            of different columns must all hold; of several values of one column, any.

    Returns:
        The runs in the order of the fingerprints; those of the filters stand at the place of the
        first filter, in the order of `stored`.

    Raises:
        UsageError: for a fingerprint of no run or of several, or filters that select none.
        RecordError: for the fingerprint of a damaged run.
    """
    filters = _filters([text for text in given if "=" in text])
    if not stored.runs and not stored.damaged:
        raise UsageError(
            "the output folder has a leaderboard, but no records of its runs",
            given=[row["fingerprint"] for row in stored.missing[:3]],
            todo="copy the folder runs/ there, or rerun the commands on the leaderboard",
        )
    matching = _matching(stored, filters) if filters else []
    chosen: dict[str, StoredRun] = {}
    for text in given:
        selected = matching if "=" in text else [_named(stored, text)]
        chosen.update({run.fingerprint: run for run in selected if run.fingerprint not in chosen})
    return list(chosen.values())


def _named(stored: StoredRuns, text: str) -> StoredRun:
    """The run with a fingerprint, or the only one whose fingerprint starts so."""
    start = text.lower()
    everything: list[StoredRun | DamagedRun] = [*stored.runs, *stored.damaged]
    matches = [run for run in everything if run.fingerprint == start] or [
        run for run in everything if run.fingerprint.startswith(start)
    ]
    if len(matches) > 1:
        raise UsageError(
            "fingerprint is that of several runs",
            given=shortened(text),
            allowed=shorten([run.fingerprint for run in matches]),
            todo="give more of its digits",
        )
    if not matches:
        _refuse_unknown(stored, text)
    (match,) = matches
    if isinstance(match, DamagedRun):
        raise damaged_error(match)
    return match


def _refuse_unknown(stored: StoredRuns, text: str) -> None:
    known = [run.fingerprint for run in stored.runs]
    gone = [row["fingerprint"] for row in stored.missing]
    if any(fingerprint.startswith(text.lower()) for fingerprint in gone):
        raise UsageError(
            "the run is on the leaderboard, but its records are not in the output folder",
            given=shortened(text),
            allowed=shorten(known),
            todo="copy its folder runs/FINGERPRINT there, or rerun its command",
        )
    if not FINGERPRINT.fullmatch(text):
        raise UsageError(
            "neither the fingerprint of a run nor a filter",
            given=shortened(text),
            allowed=f"digits of a fingerprint, such as {(known or ['0123abcd'])[0][:8]}, or "
            "COLUMN=VALUE, such as method=diffusion",
        )
    raise UsageError(
        "no run with this fingerprint",
        given=shortened(text),
        allowed=shorten(known),
        todo="list the runs by `python -m diffcls.list runs`",
    )


def _filters(texts: Iterable[str]) -> dict[str, list[str]]:
    filters: dict[str, list[str]] = {}
    for text in texts:
        column, _, value = text.partition("=")
        column = column.strip().replace("-", "_")
        if column not in FILTERS:
            raise unknown_name("column of a filter", shortened(column), FILTERS)
        value = value.strip()
        if not value:
            raise UsageError(
                "filter without a value", given=shortened(text), allowed="COLUMN=VALUE"
            )
        filters.setdefault(column, []).append(
            ALIASES.get(value, value) if column == "dataset" else value
        )
    return filters


def _matching(stored: StoredRuns, filters: Mapping[str, Sequence[str]]) -> list[StoredRun]:
    selected = [run for run in stored.runs if all(_holds(run, *one) for one in filters.items())]
    for run in stored.damaged:  # it might have fitted
        logger.warning("run %s is damaged and left out: %s", run.fingerprint, run.reason)
    if not selected:
        for column, values in filters.items():
            if not any(_holds(run, column, values) for run in stored.runs):
                present = dict.fromkeys(run.column(column) for run in stored.runs) or ["none"]
                raise unknown_name(
                    f"{column} among the runs", shortened(values[0]), filter(None, present)
                )
        shown = " ".join(f"{column}={v}" for column, values in filters.items() for v in values)
        raise UsageError(
            "no run fits all filters", given=shown, todo="leave one out; see diffcls.list runs"
        )
    return selected


def _holds(run: StoredRun, column: str, values: Sequence[str]) -> bool:
    return run.column(column) in values
