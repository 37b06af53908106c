"""Records of a run: one JSON line per image, appended, never rewritten."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from diffcls.runs.spec import RunSpec
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import locked, try_lock, unwritable_output, write_text
from diffcls.support.hashing import hash_json

HEADER_KEYS = frozenset(
    "fingerprint spec batch_size threads posterior_scale device versions commit command "
    "date".split()
)
"""Keys of ``run.json`` that a resumed run needs."""


@dataclass(frozen=True)
class Record:
    """The result of one method on one image.

    Args:
        fingerprint: fingerprint of the run.
        image_id: the image, unique in its data set.
        label: its class index.
        ranking: (K,) class indices, best first; empty for a failed image.
        scores: (K,) by class index; empty for a failed image; None for a score that is not finite.
        evaluations: forward passes of the network.
        seconds: time spent on this image.
        error: the error message of a failed image, else None.
    """

    fingerprint: str
    image_id: str
    label: int
    ranking: tuple[int, ...]
    scores: tuple[float | None, ...]
    evaluations: int
    seconds: float
    error: str | None = None

    def to_line(self) -> str:
        """The JSON line with its newline; the checksum is the last key."""
        body = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        body["scores"] = [s if s is None or math.isfinite(s) else None for s in self.scores]
        whole = {**body, "checksum": hash_json(body)}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Record:
        """The record of a JSON line.

        Raises:
            ValueError: for a line of another kind, or whose checksum does not match.
        """
        body = json.loads(line)
        if not isinstance(body, dict) or body.pop("checksum", None) != hash_json(body):
            raise ValueError("checksum does not match")
        fields = {f.name for f in dataclasses.fields(cls)}
        if set(body) != fields:
            raise ValueError(f"keys {sorted(body)} instead of {sorted(fields)}")
        body["ranking"], body["scores"] = tuple(body["ranking"]), tuple(body["scores"])
        record = cls(**body)
        if record.to_line() != line.rstrip("\n") + "\n":  # such as 1E5 for 1e5
            raise ValueError("line differs from how it was written")
        return record


class RecordStore:
    """The records of one run: ``ROOT/runs/FINGERPRINT/records-i-of-n.jsonl`` and ``run.json``.

    Several shards of a run write side by side, each to its own file, and all read all files. So a
    run that was started with one number of shards can be resumed with another.

    Args:
        root: the output folder.
        spec: specification of the run.
        shard: (i, n); i counts from 0.

    Raises:
        UsageError: for a folder that cannot be written, or a shard that another process writes.
        RecordError: for a damaged line, other than an incomplete last one.
    """

    def __init__(self, root: Path, spec: RunSpec, shard: tuple[int, int] = (0, 1)) -> None:
        self.spec = spec
        self.fingerprint = spec.fingerprint
        self.folder = root / "runs" / self.fingerprint
        self.path = self.folder / f"records-{shard[0]}-of-{shard[1]}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
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
                self._file: IO[str] = held.enter_context(open(self.path, "a", encoding="utf-8"))
            except OSError as error:
                raise unwritable_output(root, error) from error
            _drop_incomplete_line(self.path)
            self.done = {record.image_id for record in self.records()}
            self._held = held.pop_all()  # an error above releases the shard

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring everything to disk and release the shard."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._held.close()

    def header(self, proposed: Mapping[str, Any]) -> dict[str, Any]:
        """The run's header, ``run.json``: the stored one if there is one, else `proposed`.

        `proposed` is stored when it is returned. So a resumed run keeps the batch shape and
        threads that it was started with.

        Raises:
            RecordError: for a header that cannot be read, or lacks a key of `HEADER_KEYS`.
        """
        body = {"fingerprint": self.fingerprint, "spec": self.spec.as_dict(), **proposed}
        text = json.dumps(body, indent=2, allow_nan=False) + "\n"
        with locked(self.folder / "run.json") as path:
            if not path.exists():  # the first of several shards wins
                write_text(path, text)
        return read_header(path)

    def append(self, record: Record) -> None:
        """Append one line and flush it."""
        try:
            self._file.write(record.to_line())
            self._file.flush()
        except OSError as error:
            raise RecordError(
                f"cannot write a record ({error.strerror})",
                given=str(self.path),
                todo="free some space, then rerun the same command to resume",
            ) from error
        self.done.add(record.image_id)

    def records(self) -> list[Record]:
        """All records of all shards, one per image, ordered by image id."""
        by_image: dict[str, Record] = {}
        for path in sorted(self.folder.glob("records-*.jsonl")):
            for record in read_records(path):
                if record.fingerprint != self.fingerprint:
                    raise RecordError(
                        f"{path} holds a record of another run",
                        given=record.fingerprint,
                        allowed=self.fingerprint,
                        todo="move that file away, then rerun the same command",
                    )
                by_image.setdefault(record.image_id, record)
        return [by_image[image_id] for image_id in sorted(by_image)]


def read_records(path: Path) -> list[Record]:
    """All records of a file; an incomplete last line is skipped.

    Raises:
        RecordError: for a damaged line before the last.
    """
    lines = path.read_bytes().split(b"\n")
    records: list[Record] = []
    # text after the last newline is the start of a line whose writing was interrupted
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(Record.from_line(line.decode("utf-8")))
        except (ValueError, TypeError, AttributeError) as error:
            raise RecordError(
                f"line {number} of {path} is damaged ({error})",
                todo="delete that line, then rerun the same command: it re-scores that image",
            ) from error
    return records


def _drop_incomplete_line(path: Path) -> None:
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        os.truncate(path, end)


def read_header(path: Path) -> dict[str, Any]:
    """The header of a run from its ``run.json``.

    Raises:
        RecordError: for a file that cannot be read, or lacks a key of `HEADER_KEYS`.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        missing = sorted(HEADER_KEYS - set(stored))
    except (OSError, ValueError, TypeError) as error:
        raise RecordError(
            f"the run's header cannot be read ({error})",
            given=str(path),
            todo="move the run's folder away, then rerun the same command",
        ) from error
    if missing:
        raise RecordError(
            f"the run's header lacks {', '.join(missing)}: another version of diffcls wrote it",
            given=str(path),
            todo="move the run's folder away, then rerun the same command",
        )
    header: dict[str, Any] = stored
    return header
