"""Stored runs: what an output folder holds, read without the data set or the model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.runs import leaderboard
from diffcls.runs.header import REMEDY, read_header
from diffcls.runs.record import Record, each_merged
from diffcls.runs.row import MEASURED
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.paths import expand

LEADERBOARD = "leaderboard.csv"
HEADER = "run.json"
SUBSET = re.compile(r"(\d+):[0-9a-f]+")
"""Subset in a specification: the number of images, and a hash of their ids."""


@dataclass(frozen=True)
class StoredRun:
    """A run in an output folder.

    Args:
        fingerprint: name of its folder.
        folder: ``DIR/runs/FINGERPRINT``.
        spec: its specification, see `diffcls.runs.spec.RunSpec.as_dict`.
        header: its ``run.json``.
        row: its row of the leaderboard, as text; empty before the first one was written.
    """

    fingerprint: str
    folder: Path
    spec: Mapping[str, Any]
    header: Mapping[str, Any]
    row: Mapping[str, str]

    def column(self, name: str) -> str:
        """A column of the leaderboard as text: of the row, else of the specification or header.

        Empty where it is not known before the row is written.
        """
        if self.row:
            return self.row[name]
        if name == "fingerprint":
            return self.fingerprint
        if name == "status":
            return "partial"
        if name == "revision":
            name = "model_revision"
        value = self.spec.get(name, self.header.get(name))
        return "" if value is None else str(value)

    @property
    def posterior_scale(self) -> float | None:
        """See `diffcls.metrics.calibration.posterior`; None where it is not defined."""
        scale = self.header["posterior_scale"]
        return None if scale is None else float(scale)

    @property
    def n_asked(self) -> int | None:
        """Number of images of the run; None for a whole split of which earlier versions wrote
        records, but no row.
        """
        if self.row and self.row["n_asked"]:
            return int(self.row["n_asked"])
        if "n_asked" in self.header:
            return int(self.header["n_asked"])
        subset = SUBSET.fullmatch(str(self.spec.get("subset", "")))
        return int(subset[1]) if subset else None

    def records(self) -> list[Record]:
        """The records of all shards as a list, ordered by image id; see `each_record`."""
        return sorted(self.each_record(), key=lambda record: record.image_id)

    def each_record(self) -> Iterator[Record]:
        """The records of all shards, one per image, each read when it is requested.

        Raises:
            RecordError: for a damaged line, a record of another run, or one with another number of
                classes than the rest.
        """
        n_classes: set[int] = set()

        def check(record: Record) -> None:
            if record.fingerprint != self.fingerprint:
                raise ValueError(f"a record of another run, {record.fingerprint!r:.40}")
            if record.error is None:
                n_classes.add(len(record.scores))
            if len(n_classes) > 1:
                raise ValueError(
                    f"{len(record.scores)} scores; other records have {min(n_classes)}"
                )

        return each_merged(self.folder, check)


@dataclass(frozen=True)
class DamagedRun:
    """A folder below ``DIR/runs`` whose header cannot be read.

    Args:
        fingerprint: name of the folder.
        reason: the message of the error.
    """

    fingerprint: str
    reason: str


@dataclass(frozen=True)
class StoredRuns:
    """All runs of an output folder.

    Args:
        runs: those that can be read; first in the order of the leaderboard, then by start.
        damaged: those that cannot.
        missing: rows of the leaderboard whose records are not in the folder.
    """

    runs: tuple[StoredRun, ...]
    damaged: tuple[DamagedRun, ...] = ()
    missing: tuple[Mapping[str, str], ...] = ()


def read_runs(output_dir: str | os.PathLike[str]) -> StoredRuns:
    """The runs of an output folder, without their records.

    Raises:
        UsageError: for a folder without runs.
        RecordError: for a leaderboard that cannot be read.
    """
    root = Path(expand(os.fspath(output_dir)))
    rows = _measured_rows(root)
    if not os.path.isdir(root / "runs") and not rows:
        raise UsageError(
            "--output-dir holds no runs",
            given=str(output_dir),
            allowed="the output folder of an evaluation, with runs/FINGERPRINT in it",
        )
    folders = [path for path in sorted((root / "runs").glob("*")) if _holds_run(path)]
    found: list[StoredRun] = []
    damaged: list[DamagedRun] = []
    for folder in folders:
        try:
            header = read_header(folder / HEADER)
        except RecordError as error:
            damaged.append(DamagedRun(folder.name, str(error)))
            continue
        row = rows.get(folder.name, {})
        found.append(StoredRun(folder.name, folder, header["spec"], header, row))
    order = {fingerprint: i for i, fingerprint in enumerate(rows)}
    found.sort(key=lambda run: (order.get(run.fingerprint, len(order)), run.header["date"]))
    names = {folder.name for folder in folders}
    missing = [row for fingerprint, row in rows.items() if fingerprint not in names]
    return StoredRuns(tuple(found), tuple(damaged), tuple(missing))


def _holds_run(folder: Path) -> bool:
    """Whether a folder is that of a run, not only of the fit of one to ``--budget``."""
    if not folder.is_dir():
        return False
    has_fit = any(folder.glob("budget-*.json"))
    return not has_fit or os.path.exists(folder / HEADER) or any(folder.glob("records-*.jsonl"))


def _measured_rows(root: Path) -> dict[str, dict[str, str]]:
    path = root / LEADERBOARD
    rows = leaderboard.read(path) if os.path.exists(path) else []
    return {row["fingerprint"]: row for row in rows if row["source"] == MEASURED}


def damaged_error(run: DamagedRun) -> RecordError:
    """The error for a damaged run that was named."""
    return RecordError(f"run {run.fingerprint} is damaged ({run.reason})", todo=REMEDY)
