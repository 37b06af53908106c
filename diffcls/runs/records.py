"""Records of a run: one JSON line per image, appended, never rewritten."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from diffcls.data.dataset import Dataset
from diffcls.runs.header import check_proposed, read_header
from diffcls.runs.record import (
    MAX_UNSYNCED_RECORDS,
    Record,
    each_merged,
    intact_end,
    read_records,
)
from diffcls.runs.spec import RunSpec
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import (
    create_folder,
    locked,
    remedy,
    synchronise,
    try_lock,
    unwritable_output,
    write_text,
)

__all__ = ["Record", "RecordStore", "read_records"]

MAX_UNSYNCED_SECONDS = 5.0
"""Time after which the next record brings all records to disk (``fsync``)."""


class RecordStore:
    """The records of one run: ``ROOT/runs/FINGERPRINT/records-i-of-n.jsonl`` and ``run.json``.

    Several shards of a run write side by side, each to its own file, and all read all files. So a
    run that was started with one number of shards can be resumed with another.

    A record is in the hands of the operating system when `append` returns, so that no killed
    process loses it. It is on disk (``fsync``) after `MAX_UNSYNCED_RECORDS` records or with the
    first record after `MAX_UNSYNCED_SECONDS`, and before any row is computed from it: a power loss
    costs at most these last records, which are scored again.

    Args:
        root: the output folder.
        spec: specification of the run.
        shard: (i, n); i counts from 0.
        dataset: the images of the run, whose labels the records must have; None: not compared.

    Raises:
        UsageError: for a folder that cannot be written, or a shard that another process writes.
        RecordError: for a damaged line, other than an incomplete last one.
    """

    def __init__(
        self,
        root: Path,
        spec: RunSpec,
        shard: tuple[int, int] = (0, 1),
        dataset: Dataset | None = None,
    ) -> None:
        self.spec = spec
        self._labels: dict[str, int] | None = None
        if dataset is not None:
            self._labels = {item.image_id: item.label for item in dataset.items}
            self._n_classes = dataset.n_candidates
        self._has_header = False
        self.fingerprint = spec.fingerprint
        self.folder = root / "runs" / self.fingerprint
        self.path = self.folder / f"records-{shard[0]}-of-{shard[1]}.jsonl"
        try:
            create_folder(self.folder)
            lock = try_lock(self.path)
        except OSError as error:
            raise unwritable_output(root, error) from error
        if lock is None:
            raise UsageError(
                "another process is writing this shard of the run",
                given=str(self.path),
                todo="wait for it, or give each process its own --shard i/n",
            )
        with contextlib.ExitStack() as held:
            held.callback(lock.release)
            try:
                # unbuffered: what could not be written is not written again when the file is closed
                self._file: IO[bytes] = held.enter_context(open(self.path, "ab", buffering=0))
                _drop_incomplete_lines(self.path)
            except OSError as error:
                raise unwritable_output(root, error) from error
            synchronise(self.folder)  # the name of a new file
            # also those of a killed process, whose last records may not be on disk
            self._unsynced, self._synced_at = 1, time.monotonic()
            self.done = {record.image_id for record in self.records()}
            self._held = held.pop_all()  # an error above releases the shard

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self.close()
        except RecordError:
            if kind is None:  # else: the first error is the one to report
                raise

    def close(self) -> None:
        """Bring everything to disk and release the shard.

        Raises:
            RecordError: for a disk that does not take it.
        """
        try:
            with self._held:
                if not self._file.closed:
                    os.fsync(self._file.fileno())
                    self._unsynced = 0
        except OSError as error:
            raise self._unwritten(error) from error

    def sync(self) -> None:
        """Bring all records of this shard to disk.

        Raises:
            RecordError: for a disk that does not take it.
        """
        if self._unsynced and not self._file.closed:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._unwritten(error) from error
        self._unsynced, self._synced_at = 0, time.monotonic()

    def header(self, proposed: Mapping[str, Any], alone: bool = False) -> dict[str, Any]:
        """The run's header, ``run.json``: the stored one if there is one, else `proposed`.

        `proposed` is stored when it is returned. So a resumed run keeps the batch shape and
        threads that it was started with; a run without any record is started again.

        Args:
            proposed: the header, without fingerprint and specification.
            alone: whether this process holds all shards, so that no other one may begin the run.

        Raises:
            UsageError: for a proposed value that is not allowed.
            RecordError: for a stored header that `diffcls.runs.header.read_header` refuses.
        """
        check_proposed(proposed)
        body = {"fingerprint": self.fingerprint, "spec": self.spec.as_dict(), **proposed}
        text = json.dumps(body, indent=2, allow_nan=False) + "\n"
        with locked(self.folder / "run.json") as path:
            if path.exists():
                stored = read_header(path)
                if self._has_header or self.done or not (alone or self._is_free()):
                    return stored
            write_text(path, text)
            self._has_header = True
            return read_header(path)

    def note_halved(self, batch_size: int) -> None:
        """Note in ``run.json`` that a device had memory for a smaller batch only.

        The last bits of scores depend on the batch shape: a reader of the run can tell.

        Args:
            batch_size: that batch; nothing is noted unless it is the smallest so far.

        Raises:
            RecordError: for a header that cannot be read or written.
        """
        with locked(self.folder / "run.json") as path:
            header = read_header(path)
            if batch_size < header.get("halved_batch_size", header["batch_size"]):
                header["halved_batch_size"] = batch_size
                write_text(path, json.dumps(header, indent=2, allow_nan=False) + "\n")

    def _is_free(self) -> bool:
        """Whether no process holds another shard, and may write records with the stored header."""
        for path in self.folder.glob("records-*.jsonl"):
            if path == self.path:
                continue
            try:
                lock = try_lock(path)
            except OSError:
                return False
            if lock is None:
                return False
            lock.release()
        return True

    def append(self, record: Record) -> None:
        """Append one line, unbuffered; now and then, bring all to disk.

        Raises:
            RecordError: for a line that cannot be written, as on a full disk; the next start drops
                what was written of it.
        """
        rest = record.to_line().encode("utf-8")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._unwritten(error) from error
        self.done.add(record.image_id)
        self._unsynced += 1
        late = time.monotonic() - self._synced_at >= MAX_UNSYNCED_SECONDS
        if late or self._unsynced >= MAX_UNSYNCED_RECORDS:
            self.sync()

    def _unwritten(self, error: OSError) -> RecordError:
        return RecordError(
            f"cannot write a record ({error.strerror or error})",
            given=str(self.path),
            todo=f"{remedy(error)}, then rerun the same command to resume",
        )

    def records(self) -> Iterator[Record]:
        """All records of all shards, one per image, in the order of the files; its own are on disk.

        Each is read when it is requested: those of many classes would fill the memory.

        Raises:
            RecordError: for a damaged line, or a record of another run or with another label.
        """
        self.sync()
        return each_merged(self.folder, self._check)

    def _check(self, record: Record) -> None:
        """Raise ValueError for a record of another run, or that contradicts the data set."""
        if record.fingerprint != self.fingerprint:
            raise ValueError(f"a record of another run, {record.fingerprint!r:.40}")
        if self._labels is None:
            return
        label = self._labels.get(record.image_id)
        if label is None:
            raise ValueError(f"the data set has no image {record.image_id!r:.80}")
        if record.label != label:
            raise ValueError(f"label is {record.label}; that of the data set is {label}")
        if record.error is None and len(record.scores) != self._n_classes:
            raise ValueError(f"{len(record.scores)} scores; allowed: {self._n_classes}")


def _drop_incomplete_lines(path: Path) -> None:
    """Drop what a killed process, or a power loss, left of the last lines."""
    end = intact_end(path)
    if end != path.stat().st_size:
        os.truncate(path, end)
