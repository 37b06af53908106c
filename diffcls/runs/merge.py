"""Merge of output folders: records of shards that were scored without a common disk, as one run.

Records with one fingerprint are joined. All folders are read and checked before anything is
written. Then, for each run, the records that the target lacks are appended, one line after the
other, and its leaderboard row is put: a merge that is interrupted leaves a run that can be read,
and the same merge completes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffcls.runs.merge_checks import (
    check_count,
    check_scales,
    compare_specs,
    header_notes,
    missing_notes,
    spec_of,
)
from diffcls.runs.merge_copies import Copies, read_copies
from diffcls.runs.merge_sources import (
    FolderRun,
    Source,
    by_start,
    facts_of,
    open_source,
    open_sources,
    record_files,
)
from diffcls.runs.record import merged_records
from diffcls.runs.records import RecordStore
from diffcls.runs.run_row import put_run_row, run_row
from diffcls.runs.spec import RunSpec
from diffcls.runs.stored import LEADERBOARD
from diffcls.support.errors import UsageError
from diffcls.support.files import check_output, try_lock
from diffcls.support.paths import expand

WRITTEN = "records-0-of-1.jsonl"
"""File of the target that records are appended to."""


@dataclass
class MergedRun:
    """One run of a merge.

    Args:
        fingerprint: its fingerprint.
        dataset, method, search: of its specification.
        records: images with a record, in all folders together.
        new: those that the target lacked.
        overlapping: those of which there are several records, equal but for their time.
        missing: images of the run without a record; None if no folder knows their number.
        is_complete: whether every image of the run has a record, and one is scored.
        counts: name of a folder -> images of which it has a record.
        row: its leaderboard row; None if `missing` is.
    """

    fingerprint: str
    dataset: str
    method: str
    search: str
    records: int
    new: int
    overlapping: int
    missing: int | None
    is_complete: bool
    counts: dict[str, int]
    row: dict[str, Any] | None = None

    def __str__(self) -> str:
        name = "/".join(filter(None, (self.method, self.search)))
        asked = "" if self.missing is None else f" of {self.records + self.missing}"
        parts = ", ".join(f"{count} in {folder}" for folder, count in self.counts.items())
        text = f"{self.fingerprint} {self.dataset} {name}: {self.records}{asked} images"
        return f"{text}, {self.new} new, {self.overlapping} overlapping ({parts})"


@dataclass(frozen=True)
class Merge:
    """A merge of output folders.

    Args:
        runs: the runs of the folders, in the order of their first starts.
        notes: what a person should know, one sentence each.
    """

    runs: tuple[MergedRun, ...]
    notes: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether there are runs, and all are complete."""
        return bool(self.runs) and all(run.is_complete for run in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """The merge in plain JSON types."""
        return {"runs": [asdict(run) for run in self.runs], "notes": list(self.notes)}


@dataclass(frozen=True)
class _Plan:
    """A run that is checked and can be written."""

    spec: RunSpec
    header: Mapping[str, Any]
    facts: Mapping[str, Any] | None
    copies: Copies
    files: tuple[Path, ...]
    result: MergedRun
    notes: tuple[str, ...]


def merge_runs(
    folders: Sequence[str | os.PathLike[str]],
    into: str | os.PathLike[str],
    *,
    dry_run: bool = False,
) -> Merge:
    """Join the runs of several output folders in one.

    Args:
        folders: output folders of evaluations; they are only read.
        into: the output folder that receives the records; created if missing. It may be one of
            the folders, and hold other runs: records and rows are added to it, the rest stays.
        dry_run: whether everything is read and checked, and nothing written.

    Raises:
        UsageError: for a folder without runs, a target that cannot be written, and a run that
            another process writes to the target.
        RecordError: for damaged files, records of one image that differ, folders that contradict
            each other, and parts of a run by several scoring versions.
    """
    root = Path(expand(os.fspath(into)))
    check_output(root)
    sources = open_sources(folders, root)
    target = open_source(os.fspath(into), root)
    real = os.path.realpath(root)
    is_listed = any(os.path.realpath(expand(os.fspath(one))) == real for one in folders)
    read = [*sources, target] if is_listed else sources
    fingerprints = {name: None for source in read for name in (*source.runs, *source.damaged)}
    plans = [_plan(fingerprint, target, sources) for fingerprint in fingerprints]
    empty = [plan.spec.fingerprint for plan in plans if not plan.copies.best]
    plans = sorted(
        (plan for plan in plans if plan.copies.best),
        key=lambda plan: (plan.header["date"], plan.spec.fingerprint),
    )
    notes = [f"run {fingerprint} has no records yet: not merged" for fingerprint in empty]
    notes += [note for plan in plans for note in plan.notes]
    notes += compare_specs(
        [(plan.spec, plan.result.counts) for plan in plans if not plan.result.is_complete]
    )
    notes += [
        f"{source.name} has a row of run {fingerprint}, but no records of it"
        for source in read
        for fingerprint in source.rows_alone
        if fingerprint not in {plan.spec.fingerprint for plan in plans}
    ]
    for plan in plans:
        if dry_run:
            plan.result.row = _row(plan)
        else:
            _write(root, plan)
    return Merge(tuple(plan.result for plan in plans), tuple(notes))


def _plan(fingerprint: str, target: Source, sources: Sequence[Source]) -> _Plan:
    """Read and check a run in all folders."""
    runs = [FolderRun(one.name, run) for one in sources if (run := one.run(fingerprint))]
    runs = by_start(runs)
    own = [FolderRun(target.name, run)] if (run := target.run(fingerprint)) else []
    facts = facts_of([one.run for one in (*own, *runs)])
    copies = read_copies(fingerprint, own, runs, facts["n_classes"] if facts else None)
    # a run of the target that was begun keeps its header
    folders = [*own, *runs] if copies.in_target else [*runs, *own]
    spec = spec_of(folders[0])
    check_scales(folders)
    count = len(copies.best)
    asked = facts["n_asked"] if facts else None
    check_count(folders[0], count, asked)
    result = MergedRun(
        fingerprint=fingerprint,
        dataset=spec.dataset,
        method=spec.method,
        search=spec.search,
        records=count,
        new=count - len(copies.in_target),
        overlapping=len(copies.overlapping),
        missing=None if asked is None else asked - count,
        is_complete=count == asked and copies.scored > 0,
        counts=copies.counts,
    )
    notes = [f"{path}: incomplete last line skipped" for path in copies.incomplete]
    notes += header_notes(folders)
    notes += missing_notes([one.run for one in folders], asked, count, is_new=not own)
    files = tuple(path for one in (*own, *runs) for path in record_files(one.run.folder))
    return _Plan(spec, folders[0].run.header, facts, copies, files, result, tuple(notes))


def _write(root: Path, plan: _Plan) -> None:
    """Append the records that the target lacks, and put the run's row."""
    folder = root / "runs" / plan.spec.fingerprint
    header = plan.header
    with contextlib.ExitStack() as held:
        if plan.result.new:
            _check_free(folder, held)
            store = held.enter_context(RecordStore(root, plan.spec))
            proposed = {k: v for k, v in header.items() if k not in ("fingerprint", "spec")}
            header = store.header(proposed, alone=True)  # see `_check_free`
            for path in plan.files:
                if path.parent != folder:
                    for record in plan.copies.records_of(path):
                        if record.image_id not in store.done:
                            store.append(record)
    if plan.facts is not None:
        table = root / LEADERBOARD
        plan.result.row = put_run_row(
            table, plan.spec, header, plan.facts, lambda: merged_records(folder)
        )


def _row(plan: _Plan) -> dict[str, Any] | None:
    """The row that `_write` would put."""
    if plan.facts is None:
        return None
    records = [record for path in plan.files for record in plan.copies.records_of(path)]
    return run_row(plan.spec, plan.header, plan.facts, records)


def _check_free(folder: Path, held: contextlib.ExitStack) -> None:
    """Hold all shards of a run in the target, but for the one that is written.

    Raises:
        UsageError: if another process writes one of them.
    """
    for path in record_files(folder):
        try:
            lock = try_lock(path)
        except OSError:
            continue  # a folder that cannot be written is refused by the store
        if lock is None:
            raise UsageError(
                "another process is writing this run in --into",
                given=str(path),
                todo="wait for it, then rerun the same command",
            )
        if path.name == WRITTEN:
            lock.release()
        else:
            held.callback(lock.release)
