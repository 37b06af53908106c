"""Record of one image: a JSON line with a checksum, and the checks of what it holds."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.support.errors import RecordError
from diffcls.support.hashing import hash_json, hash_text
from diffcls.support.stored_json import TEXT, Rule, first_breach, integer, list_of, optional

MAX_CLASSES = 1_000_000
MAX_SECONDS = 1e12
MAX_UNSYNCED_RECORDS = 100
"""Records that a power loss may take: see `diffcls.runs.records.RecordStore`."""

BLOCK_BYTES = 512
"""A disk writes multiples of this."""
TAIL_BYTES = 2**20
"""Length of the end of a file that is read first to find its last lines."""


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_SECONDS


RULES = {
    "fingerprint": TEXT,
    "image_id": TEXT,
    "label": integer(0, MAX_CLASSES),
    "ranking": list_of(integer(0, MAX_CLASSES)),
    "scores": Rule(
        "a list of finite floats or null",
        lambda value: type(value) is list and all(s is None or type(s) is float for s in value),
    ),
    "evaluations": integer(0, 2**53),
    "seconds": Rule(f"a number from 0 to {MAX_SECONDS:g}", _is_seconds),
    "error": optional(TEXT),
}
"""Allowed values of a record's keys, beside the checksum."""


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
        """The JSON line with its newline; the checksum is the last key.

        It is `hash_json` of the other keys. Most of the time goes into the digits of the scores, so
        each value is encoded once, for the canonical JSON text and for the line.
        """
        body = {name: getattr(self, name) for name in FIELDS}
        body["scores"] = [s if s is None or math.isfinite(s) else None for s in self.scores]
        texts = {name: f'"{name}":{_encode(value)}' for name, value in body.items()}
        checksum = hash_text("{" + ",".join(texts[name] for name in sorted(texts)) + "}")
        line = "{" + ",".join([*texts.values(), f'"checksum":"{checksum}"']) + "}"
        # a lone surrogate becomes its JSON escape sequence
        return line.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"

    @classmethod
    def from_line(cls, line: str) -> Record:
        """The record of a JSON line.

        Raises:
            ValueError: for a line of another kind, whose checksum does not match, or with a value
                that no record can have.
        """
        try:
            body = json.loads(line)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(body, dict):
            raise ValueError("checksum does not match")
        checksum = body.pop("checksum", None)
        try:
            record = cls._from_body(body)
            # its checksum is that of its values if the line is; it differs for 1E5 instead of 1e5
            if record.to_line() != line.rstrip("\n") + "\n":
                raise ValueError("line differs from how it was written")
        except ValueError:
            if checksum != hash_json(body):
                raise ValueError("checksum does not match") from None
            raise
        return record

    @classmethod
    def _from_body(cls, body: dict[str, Any]) -> Record:
        """The record of a line's values, without its checksum."""
        if set(body) != set(FIELDS):
            raise ValueError(f"keys {sorted(body)} instead of {sorted(FIELDS)}")
        breach = first_breach(body, RULES)
        if breach is not None:
            raise ValueError(f"{breach.key} is {breach.given}; allowed: {breach.allowed}")
        scores, ranking = tuple(body["scores"]), tuple(body["ranking"])
        record = cls(**{**body, "scores": scores, "ranking": ranking})
        record._check()
        return record

    def without_scores(self) -> Record:
        """The same with its best class alone, in little memory: what running figures need."""
        return dataclasses.replace(self, ranking=self.ranking[:1], scores=())

    def _check(self) -> None:
        """Raise ValueError unless label, ranking and scores belong together."""
        n_classes = len(self.scores)
        if sorted(self.ranking) != list(range(n_classes)):
            raise ValueError(f"ranking is no permutation of the {n_classes} classes of scores")
        if self.error is None and not self.label < n_classes:
            raise ValueError(f"label is {self.label}; allowed: 0 to {n_classes - 1}")
        if self.error is not None and n_classes:
            raise ValueError("a failed image has scores")


FIELDS = tuple(field.name for field in dataclasses.fields(Record))
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
REMEDY = "delete that line, then rerun the same command: it re-scores that image"


def read_records(
    path: Path, check: Callable[[Record], None] | None = None, todo: str = REMEDY
) -> list[Record]:
    """All records of a file as a list, see `each_record`."""
    return list(each_record(path, check, todo))


def each_record(
    path: Path, check: Callable[[Record], None] | None = None, todo: str = REMEDY
) -> Iterator[Record]:
    """The records of a file, in the order of its lines, without incomplete last ones.

    See `intact_length`. One line is in memory at a time.

    Args:
        path: the file.
        check: raises ValueError for a record that does not belong to the run.
        todo: remedy for a damaged line.

    Raises:
        RecordError: for a file that cannot be read, or a damaged line before the last.
    """
    for number, line in enumerate(_intact_lines(path), start=1):
        try:
            record = Record.from_line(line.decode("utf-8"))
            if check is not None:
                check(record)
        except ValueError as error:
            raise RecordError(f"line {number} of {path} is damaged ({error})", todo=todo) from error
        yield record


def _intact_lines(path: Path) -> Iterator[bytes]:
    try:
        end = intact_end(path)
        with open(path, "rb") as file:
            while file.tell() < end:
                yield file.readline()
    except OSError as error:
        raise RecordError(
            f"records cannot be read ({error.strerror or error})",
            given=str(path),
            todo="move that file away, then rerun the same command",
        ) from error


def intact_end(path: Path) -> int:
    """`intact_length` of a file, of which only the last lines are read.

    Raises:
        OSError: for a file that cannot be read.
    """
    with open(path, "rb") as file:
        size, length = os.fstat(file.fileno()).st_size, TAIL_BYTES
        while True:
            start = max(0, size - length) // BLOCK_BYTES * BLOCK_BYTES
            file.seek(start)
            tail = file.read(size - start)
            if start == 0 or tail.count(b"\n") > MAX_UNSYNCED_RECORDS + 1:
                return start + intact_length(tail)
            length *= 4


def intact_length(data: bytes) -> int:
    """Length of the lines of a records file that were written to their end.

    Text after the last newline is the start of a line whose writing was interrupted. After a power
    loss, a file may have its length but not the data of its last blocks, which then read as zeros
    up to the end of a block: such zeros end the intact part, if they lie among the lines that need
    not have reached the disk. Any other zero is damage (JSON escapes it), and stays.
    """
    end = data.rfind(b"\n") + 1
    start = end
    for _ in range(MAX_UNSYNCED_RECORDS):
        start = data.rfind(b"\n", 0, max(start - 1, 0)) + 1
        if start == 0:
            break
    for zeros in re.finditer(rb"\0+", data[start:end]):
        last = start + zeros.end()
        if last % BLOCK_BYTES == 0:
            return data.rfind(b"\n", 0, start + zeros.start()) + 1
    return end


def merged_records(folder: Path, check: Callable[[Record], None] | None = None) -> list[Record]:
    """All records of a run's folder, of all shards: one per image, ordered by image id.

    Args:
        folder: ``runs/FINGERPRINT``.
        check: see `read_records`.

    Raises:
        RecordError: see `each_record`.
    """
    return sorted(each_merged(folder, check), key=lambda record: record.image_id)


def each_merged(folder: Path, check: Callable[[Record], None] | None = None) -> Iterator[Record]:
    """The same in the order of the files; of many classes, not all fit into memory."""
    seen: set[str] = set()
    for path in sorted(folder.glob("records-*.jsonl")):
        for record in each_record(path, check):
            if record.image_id not in seen:
                seen.add(record.image_id)
                yield record
