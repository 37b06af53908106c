"""Sources of a merge: the runs of several output folders, with their records and their places."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffcls.runs.run_row import FACTS
from diffcls.runs.spec import SCORING_VERSION
from diffcls.runs.stored import LEADERBOARD, DamagedRun, StoredRun, damaged_error, read_runs
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.hashing import canonical_json
from diffcls.support.paths import expand

SHARD = re.compile(r"records-(\d{1,9})-of-(\d{1,9})\.jsonl")


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
class FolderRun:
    """A run in one of the folders.

    Args:
        name: the folder as it was given.
        run: the run.
    """

    name: str
    run: StoredRun


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


def by_start(runs: Iterable[FolderRun]) -> list[FolderRun]:
    """A run's folders in the order of their first starts, however they were given."""

    def key(one: FolderRun) -> tuple[str, str, list[tuple[str, bytes]]]:
        files = [(path.name, _first_line(path)) for path in record_files(one.run.folder)]
        return one.run.header["date"], canonical_json(one.run.header), files

    return sorted(runs, key=key)


def _first_line(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.readline()


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


def facts_of(runs: Sequence[StoredRun]) -> dict[str, Any] | None:
    """The facts of a run that records do not hold, from its headers, else from its rows.

    Args:
        runs: the run in each folder; the first that knows the facts counts.

    Returns:
        See `diffcls.runs.run_row.FACTS`; None if no folder knows them.

    Raises:
        RecordError: for folders that contradict each other on the images, the classes or the
            supervision of the run.
    """
    known = [facts for run in runs if (facts := _facts(run)) is not None]
    if not known:
        return None
    # settings are not compared: they list the options that were given, so where one command gives
    # a default and another leaves it out, they differ and the numbers do not
    compared = [name for name in FACTS if name != "setting"]
    agreed = {name: _agreed(name, {facts[name] for facts in known}, runs[0]) for name in compared}
    return {**known[0], **agreed}


def _agreed(name: str, values: set[Any], run: StoredRun) -> Any:
    """The one value of a fact in all folders."""
    if name == "supervision":
        # where a concept lies without its card, the number of its images is not known: what only
        # says less, such as "few-shot" beside "few-shot, 5 images", is no contradiction
        values = {v for v in values if not any(other.startswith(f"{v}, ") for other in values)}
    if len(values) > 1:
        raise RecordError(
            f"folders contradict each other on {name} of run {run.fingerprint}",
            given=sorted(values),
            allowed="one value: runs of one fingerprint have the same images, classes and model",
            todo="find out which leaderboard.csv or run.json was edited",
        )
    return values.pop()


def _facts(run: StoredRun) -> dict[str, Any] | None:
    if all(name in run.header for name in FACTS):
        return {name: run.header[name] for name in FACTS}
    if run.row and run.row["n_asked"] and run.row["n_classes"]:
        counts = {name: int(run.row[name]) for name in ("n_asked", "n_classes")}
        return {**{name: run.row[name] for name in FACTS}, **counts}
    return None
