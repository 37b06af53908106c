"""Sources of a merge: the runs of several output folders, with their records and their places."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffcls.runs.record import Record, read_records
from diffcls.runs.run_row import FACTS
from diffcls.runs.spec import SCORING_VERSION
from diffcls.runs.stored import LEADERBOARD, DamagedRun, StoredRun, damaged_error, read_runs
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.hashing import canonical_json
from diffcls.support.paths import expand

SHARD = re.compile(r"records-(\d{1,9})-of-(\d{1,9})\.jsonl")
DAMAGED_TODO = "score that image once more where it was scored, or delete the line; then merge"


@dataclass(frozen=True)
class Source:
    """An output folder that is merged.

    Args:
        name: the folder as it was given.
        runs: its runs that can be read, by fingerprint.
        damaged: the others.
        rows_alone: fingerprints of measured rows whose records are not in the folder.
    """

    name: str
    runs: Mapping[str, StoredRun] = field(default_factory=dict)
    damaged: Mapping[str, DamagedRun] = field(default_factory=dict)
    rows_alone: tuple[str, ...] = ()

    def run(self, fingerprint: str) -> StoredRun | None:
        """One of its runs; None if it has no such run.

        Raises:
            RecordError: for a run that cannot be read, or that a later version of diffcls wrote.
        """
        if fingerprint in self.damaged:
            raise damaged_error(self.damaged[fingerprint])
        run = self.runs.get(fingerprint)
        version = run.spec.get("scoring_version") if run is not None else None
        if run is not None and isinstance(version, int) and version > SCORING_VERSION:
            raise RecordError(
                f"run {fingerprint} has scoring version {version}, of a later diffcls",
                given=str(run.folder),
                allowed=f"scoring versions up to {SCORING_VERSION}",
                todo="update diffcls on this machine",
            )
        return run


@dataclass(frozen=True)
class Copy:
    """A record with its place.

    Args:
        record: the record.
        source: name of the folder.
        path: its file.
        line: its line, from 1.
    """

    record: Record
    source: str
    path: Path
    line: int

    @property
    def place(self) -> str:
        """File and line, for a message."""
        return f"line {self.line} of {self.path}"


@dataclass
class Copies:
    """The records of one run in all folders.

    Args:
        best: image id -> the copy that counts: that of the target, else the first in a fixed order.
        counts: name of a folder -> images of which it has a record.
        overlapping: images of which there are several records, equal but for their time.
        incomplete: files whose last line was cut off.
        in_target: images of which the target has a record.
    """

    best: dict[str, Copy] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    overlapping: set[str] = field(default_factory=set)
    incomplete: list[Path] = field(default_factory=list)
    in_target: frozenset[str] = frozenset()

    def add(self, copy: Copy) -> None:
        """Add a record.

        Raises:
            RecordError: for an image of which there is a record with another content.
        """
        image_id = copy.record.image_id
        known = self.best.setdefault(image_id, copy)
        if known is copy:
            return
        self.overlapping.add(image_id)
        other = [name for name in _FIELDS if _differs(name, known.record, copy.record)]
        if other:
            raise RecordError(
                f"two records of image {image_id!r:.80} differ in {', '.join(other)}: "
                f"{known.place} and {copy.place}",
                todo="delete one of the two lines, then merge",
            )


_FIELDS = [f.name for f in dataclasses.fields(Record) if f.name != "seconds"]


def _differs(name: str, first: Record, second: Record) -> bool:
    return bool(getattr(first, name) != getattr(second, name))


def open_sources(folders: Sequence[str | os.PathLike[str]], target: Path) -> list[Source]:
    """The folders that are merged, each once; the target is none of them.

    Raises:
        UsageError: for a folder without runs.
        RecordError: for a leaderboard that cannot be read.
    """
    sources: list[Source] = []
    seen = {os.path.realpath(target)}
    for given in folders:
        name = os.fspath(given)
        folder = Path(expand(name))
        if not (folder / "runs").is_dir():
            raise _no_runs(name)
        if os.path.realpath(folder) not in seen:
            seen.add(os.path.realpath(folder))
            source = open_source(name, folder)
            if not (source.runs or source.damaged or source.rows_alone):
                raise _no_runs(name)
            sources.append(source)
    return sources


def _no_runs(name: str) -> UsageError:
    return UsageError(
        "DIR holds no runs" if os.path.isdir(expand(name)) else "DIR is no folder",
        given=name,
        allowed="the output folder of an evaluation, with runs/FINGERPRINT in it",
    )


def open_source(name: str, folder: Path) -> Source:
    """The runs of an output folder, without their records; an empty or missing one has none."""
    if not (folder / "runs").is_dir() and not (folder / LEADERBOARD).exists():
        return Source(name)
    stored = read_runs(folder)
    # a run that was stopped before its header was written has nothing to merge
    damaged = [d for d in stored.damaged if record_files(folder / "runs" / d.fingerprint)]
    return Source(
        name,
        {run.fingerprint: run for run in stored.runs},
        {one.fingerprint: one for one in damaged},
        tuple(row["fingerprint"] for row in stored.missing),
    )


@dataclass(frozen=True)
class FolderRun:
    """A run in one of the folders.

    Args:
        name: the folder as it was given.
        run: the run.
    """

    name: str
    run: StoredRun


def by_start(runs: Iterable[FolderRun]) -> list[FolderRun]:
    """A run's folders in the order of their first starts, however they were given."""
    return sorted(runs, key=lambda one: (one.run.header["date"], canonical_json(one.run.header)))


def read_copies(fingerprint: str, target: Sequence[FolderRun], runs: Sequence[FolderRun]) -> Copies:
    """The records of a run in the target and all sources.

    Args:
        fingerprint: the run.
        target: the run in the target, if it is there; its records count before all others.
        runs: the run in each other folder.

    Raises:
        RecordError: for a damaged line, a record of another run or with another number of classes,
            and two records of an image that differ.
    """
    copies = Copies()
    n_classes: set[int] = set()

    def check(record: Record) -> None:
        if record.fingerprint != fingerprint:
            raise ValueError(f"a record of another run, {record.fingerprint!r:.40}")
        if record.error is None:
            n_classes.add(len(record.scores))
        if len(n_classes) > 1:
            raise ValueError(f"{len(record.scores)} scores; other records have another number")

    for group in (target, runs):
        found: list[Copy] = []
        for one in group:
            of_folder = list(_copies(one, check, copies.incomplete))
            copies.counts[one.name] = len({copy.record.image_id for copy in of_folder})
            found += of_folder
        # in an order that is the same however the folders were given
        for copy in sorted(found, key=lambda one: (one.record.image_id, one.record.to_line())):
            copies.add(copy)
        if group is target:
            copies.in_target = frozenset(copies.best)
    return copies


def _copies(
    one: FolderRun, check: Callable[[Record], None], incomplete: list[Path]
) -> Iterator[Copy]:
    for path in record_files(one.run.folder):
        for line, record in enumerate(read_records(path, check, DAMAGED_TODO), start=1):
            yield Copy(record, one.name, path, line)
        if _is_cut_off(path):
            incomplete.append(path)


def record_files(folder: Path) -> list[Path]:
    """The files of records in a run's folder, of all shards; none if it does not exist.

    Raises:
        RecordError: for a folder that cannot be read, which `Path.glob` would pass over.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(
            f"the run's folder cannot be read ({error.strerror or error})",
            given=str(folder),
            todo="make it readable, then rerun the same command",
        ) from error
    return sorted(folder / name for name in names if SHARD.fullmatch(name))


def _is_cut_off(path: Path) -> bool:
    """Whether text follows the last newline: a line whose writing was interrupted."""
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def facts_of(runs: Sequence[StoredRun]) -> dict[str, Any] | None:
    """The facts of a run that records do not hold, from its headers, else from its rows.

    Args:
        runs: the run in each folder; the first that knows the facts counts.

    Returns:
        See `diffcls.runs.run_row.FACTS`; None if no folder knows them.

    Raises:
        RecordError: for folders that contradict each other on the images or classes of the run.
    """
    known = [facts for run in runs if (facts := _facts(run)) is not None]
    for name in ("n_asked", "n_classes"):
        values = {facts[name] for facts in known}
        if len(values) > 1:
            raise RecordError(
                f"folders contradict each other on {name} of run {runs[0].fingerprint}",
                given=sorted(values),
                allowed="one number: runs of one fingerprint have the same images and classes",
                todo="find out which leaderboard.csv or run.json was edited",
            )
    return known[0] if known else None


def _facts(run: StoredRun) -> dict[str, Any] | None:
    if all(name in run.header for name in FACTS):
        return {name: run.header[name] for name in FACTS}
    if run.row and run.row["n_asked"] and run.row["n_classes"]:
        counts = {name: int(run.row[name]) for name in ("n_asked", "n_classes")}
        return {**{name: run.row[name] for name in FACTS}, **counts}
    return None
