"""results/leaderboard.csv: one row a run, beside the published figures.

Measured rows are known by their fingerprint, published ones by what they are about; neither ever
borrows from the other. Rows of other runs stay as they are, in their order.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from numbers import Integral, Real
from typing import Any

from diffcls.metrics import calibration, classification
from diffcls.metrics.statistics import wilson_interval
from diffcls.support.files import locked, write_text
from diffcls.support.errors import RecordError, UsageError

__all__ = ["COLUMNS", "published_rows", "read", "summarise", "upsert"]

# fmt: off
COLUMNS: tuple[str, ...] = (
    "fingerprint", "dataset", "split", "n_classes", "method", "model", "revision", "search",
    "setting", "supervision", "source", "n_asked", "n_scored", "accuracy", "ci_low", "ci_high",
    "top5", "mean_per_class", "ece", "evaluations_per_image", "seconds_per_image", "seed",
    "status", "device", "dtype", "versions", "commit", "command", "date",
)
# fmt: on
MEASURED = "measured"
Row = dict[str, Any]


def published_rows() -> list[Row]:
    """The published figures as rows of COLUMNS: numbers where cells hold numbers, else text.

    40 rows of source ``published`` (5 methods on 8 data sets) and 6 of
    ``published, later version, unconfirmed``. What was not published is None.
    """
    text = resources.files("diffcls").joinpath("assets", "published.csv").read_text(encoding="utf-8")
    rows = []
    for shipped in csv.DictReader(io.StringIO(text)):
        row: Row = dict.fromkeys(COLUMNS)
        row.update({name: cell for name, cell in shipped.items() if name in row and cell})
        counts = [name for name in ("n_classes", "n_asked", "n_scored") if row[name]]
        row.update({name: int(row[name]) for name in counts})
        row.update(accuracy=float(row["accuracy"]), status="complete")
        rows.append(row)
    return rows


def read(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """The rows of a leaderboard file, their cells as they stand there.

    Raises:
        RecordError: where the file cannot be read, its header is not COLUMNS, or a row has more or
            fewer cells than that. The file is left as it is.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = [cells for cells in csv.reader(file, strict=True) if cells]
    except (OSError, UnicodeError, csv.Error) as error:
        raise RecordError(
            f"leaderboard cannot be read ({error})",
            given=os.fspath(path),
            allowed="a CSV file in UTF-8, as the evaluate command writes it",
            todo="name the folder of a finished run, or move the file aside",
        ) from error
    if not lines:
        return []
    _check_header(path, lines[0])
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(COLUMNS):
            raise RecordError(
                f"row {number} of the leaderboard has {len(cells)} cells",
                given=os.fspath(path),
                allowed=f"{len(COLUMNS)} cells",
                todo="mend or delete that row, or move the file aside",
            )
    return [dict(zip(COLUMNS, cells, strict=True)) for cells in lines[1:]]


Rows = Iterable[Mapping[str, Any]]


def upsert(path: str | os.PathLike[str], rows: Rows | Callable[[], Rows]) -> None:
    """Put measured rows into a leaderboard file, which is made if it does not exist.

    A row takes the place of the one with its fingerprint, or comes last. The published rows are
    there once afterwards; all other rows stay, in their order. Writers wait for one another, and
    the file is whole at every moment: it is replaced in one step or not at all.

    Args:
        path: the CSV file; its folder is made.
        rows: mappings from COLUMNS to text or numbers; what is missing, None or NaN is left empty.
            A function that makes them is called once no other writer is at work.

    Raises:
        UsageError: for a column that is not in COLUMNS, a row that is not measured or has no
            fingerprint, or a folder that cannot be written.
        RecordError: for a file that `read` refuses, or that cannot be written. It is left as it is.
    """
    # rows that are there are checked before anything is touched
    fresh = {} if callable(rows) else _fresh(rows)
    with locked(path) as target:
        if callable(rows):
            # under the lock: of two shards that end together the later one sees all records
            fresh = _fresh(rows())
        old = read(target) if target.exists() else []
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(_merged(old, fresh))
        write_text(target, text.getvalue())


def summarise(
    records: Iterable[Any],
    metadata: Mapping[str, Any],
    *,
    n_asked: int,
    posterior_scale: float | None,
) -> Row:
    """One measured row of a run, from its records.

    Args:
        records: at most one an image; mappings or objects with the fields `label`, `ranking` (K,)
            best first, `scores` (K,) by class index (None for a class never scored),
            `evaluations`, `seconds` and `error` (None unless the image failed).
        metadata: the columns that records do not tell; `n_classes` is among them.
        n_asked: number of images the run is about.
        posterior_scale: what `calibration.posterior` takes; None leaves `ece` empty.

    Returns:
        All of COLUMNS. Failed images are counted in `n_asked` but not in `n_scored`; every figure
        is over the scored ones, and None where there are none. `status` is ``complete`` once every
        image has a record and at least one is scored.

    Raises:
        UsageError: for metadata that is no column or is computed here, or without `n_classes`.
        RecordError: for more records than images asked, or a ranking that does not fit.
    """
    n_classes = _check_metadata(metadata)
    all_records = list(records)
    if len(all_records) > n_asked:
        raise RecordError(
            "more records than images", given=len(all_records), allowed=f"at most {n_asked}"
        )
    scored = [record for record in all_records if _field(record, "error") is None]
    done = len(all_records) == n_asked and bool(scored)
    row: Row = dict.fromkeys(COLUMNS) | dict(metadata)
    row.update(source=MEASURED, n_asked=n_asked, n_scored=len(scored))
    row.update(status="complete" if done else "partial")
    if scored:
        row.update(_figures(scored, n_classes, posterior_scale))
    return row


# ---- summarise ---------------------------------------------------------------------------------

# the columns that `summarise` fills itself
# fmt: off
_COMPUTED = frozenset((
    "source", "n_asked", "n_scored", "accuracy", "ci_low", "ci_high", "top5", "mean_per_class",
    "ece", "evaluations_per_image", "seconds_per_image", "status",
))
# fmt: on


def _check_metadata(metadata: Mapping[str, Any]) -> int:
    wanted = [name for name in COLUMNS if name not in _COMPUTED]
    for name in metadata:
        if name not in wanted:
            raise UsageError("metadata is not for this column", given=name, allowed=wanted)
    n_classes = metadata.get("n_classes")
    if not isinstance(n_classes, Integral) or n_classes < 1:
        raise UsageError("n_classes out of range", given=n_classes, allowed="an int, at least 1")
    return int(n_classes)


def _figures(scored: Sequence[Any], n_classes: int, scale: float | None) -> Row:
    for record in scored:
        _check_record(record, n_classes)
    labels = [_field(record, "label") for record in scored]
    rankings = [_field(record, "ranking") for record in scored]
    accuracy = classification.top_k_accuracy(rankings, labels)
    low, high = wilson_interval(round(accuracy * len(scored)), len(scored))
    ece = None
    if scale is not None:
        posteriors = [calibration.posterior(_scores(record), scale) for record in scored]
        ece = calibration.expected_calibration_error(posteriors, labels)
    return {
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
        "top5": classification.top_k_accuracy(rankings, labels, k=5) if n_classes > 5 else None,
        "mean_per_class": classification.mean_per_class([ranking[0] for ranking in rankings], labels),
        "ece": ece,
        "evaluations_per_image": _mean(scored, "evaluations"),
        "seconds_per_image": _mean(scored, "seconds"),
    }


def _check_record(record: Any, n_classes: int) -> None:
    label, ranking = _field(record, "label"), _field(record, "ranking")
    fits = 0 <= label < n_classes and sorted(ranking) == list(range(n_classes))
    if not fits or len(_field(record, "scores")) != n_classes:
        raise RecordError(
            "record does not fit the run's classes",
            given={"label": label, "ranking": ranking},
            allowed=f"a label, a ranking and scores of the {n_classes} classes",
            todo="run again in another output folder",
        )


def _scores(record: Any) -> list[float]:
    # a class never scored has no share in the posterior
    return [-math.inf if score is None else score for score in _field(record, "scores")]


def _field(record: Any, name: str) -> Any:
    return record[name] if isinstance(record, Mapping) else getattr(record, name)


def _mean(records: Sequence[Any], name: str) -> float:
    return math.fsum(_field(record, name) for record in records) / len(records)


# ---- the file ----------------------------------------------------------------------------------


def _check_header(path: str | os.PathLike[str], header: Sequence[str]) -> None:
    if tuple(header) == COLUMNS:
        return
    missing = [name for name in COLUMNS if name not in header]
    extra = [name for name in header if name not in COLUMNS]
    differs = [f"lacks {', '.join(missing)}"] if missing else []
    differs += [f"has {', '.join(map(repr, extra))} as well"] if extra else []
    raise RecordError(
        f"leaderboard's columns differ: it {' and '.join(differs) or 'has them in another order'}",
        given=os.fspath(path),
        allowed=",".join(COLUMNS),
        todo="nothing was written: move the file aside, or choose another output folder",
    )


def _fresh(rows: Rows) -> dict[tuple[str, ...], dict[str, str]]:
    return {_key(row): row for row in map(_measured_cells, rows)}


def _measured_cells(row: Mapping[str, Any]) -> dict[str, str]:
    for name in row:
        if name not in COLUMNS:
            raise UsageError("unknown column of the leaderboard", given=name, allowed=COLUMNS)
    if row.get("source") != MEASURED or not row.get("fingerprint"):
        raise UsageError(
            "row cannot be put into the leaderboard",
            given={"source": row.get("source"), "fingerprint": row.get("fingerprint")},
            allowed="source 'measured' with the run's fingerprint",
        )
    return _cells(row)


def _merged(
    old: Iterable[dict[str, str]], fresh: Mapping[tuple[str, ...], dict[str, str]]
) -> list[dict[str, str]]:
    shipped = {_key(row): row for row in map(_cells, published_rows())}
    waiting, rows = {**shipped, **fresh}, []
    for row in old:
        key = _key(row)
        if key not in shipped and key not in fresh:
            rows.append(row)
        elif key in waiting:  # else: a second copy
            rows.append(waiting.pop(key))
    before = [row for key, row in waiting.items() if key in shipped]
    return before + rows + [row for key, row in waiting.items() if key in fresh]


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    # a measured row is known by its fingerprint, a published one by what it is about
    known_by = ("fingerprint",) if row["source"] == MEASURED else ("dataset", "method", "model")
    return (row["source"], *(row[name] for name in known_by))


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: _cell(row.get(name)) for name in COLUMNS}


def _cell(value: Any) -> str:
    if isinstance(value, Real) and not isinstance(value, Integral):
        number = float(value)
        if math.isinf(number):
            raise UsageError("figure is infinite", given=number, allowed="finite numbers, or None")
        return "" if math.isnan(number) else repr(round(number, 6))
    text = "" if value is None else str(value)
    # a spreadsheet would run such a text as a formula
    return "'" + text if text.lstrip()[:1] in tuple("=+-@") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
