"""Record of one image: a JSON line with a checksum, and the checks of what it holds."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.support.errors import RecordError
from diffcls.support.hashing import hash_json
from diffcls.support.stored_json import TEXT, Rule, first_breach, integer, list_of, optional

MAX_CLASSES = 1_000_000
MAX_SECONDS = 1e12
MAX_UNSYNCED_RECORDS = 100
"""Records that a power loss may take: see `diffcls.runs.records.RecordStore`."""

BLOCK_BYTES = 512
"""A disk writes multiples of this."""


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
        """The JSON line with its newline; the checksum is the last key."""
        body = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        body["scores"] = [s if s is None or math.isfinite(s) else None for s in self.scores]
        whole = {**body, "checksum": hash_json(body)}
        line = json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
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
        if not isinstance(body, dict) or body.pop("checksum", None) != hash_json(body):
            raise ValueError("checksum does not match")
        fields = {f.name for f in dataclasses.fields(cls)}
        if set(body) != fields:
            raise ValueError(f"keys {sorted(body)} instead of {sorted(fields)}")
        breach = first_breach(body, RULES)
        if breach is not None:
            raise ValueError(f"{breach.key} is {breach.given}; allowed: {breach.allowed}")
        body["ranking"], body["scores"] = tuple(body["ranking"]), tuple(body["scores"])
        record = cls(**body)
        record._check()
        if record.to_line() != line.rstrip("\n") + "\n":  # such as 1E5 for 1e5
            raise ValueError("line differs from how it was written")
        return record

    def _check(self) -> None:
        """Raise ValueError unless label, ranking and scores belong together."""
        n_classes = len(self.scores)
        if sorted(self.ranking) != list(range(n_classes)):
            raise ValueError(f"ranking is no permutation of the {n_classes} classes of scores")
        if self.error is None and not self.label < n_classes:
            raise ValueError(f"label is {self.label}; allowed: 0 to {n_classes - 1}")
        if self.error is not None and n_classes:
            raise ValueError("a failed image has scores")


def read_records(
    path: Path,
    check: Callable[[Record], None] | None = None,
    todo: str = "delete that line, then rerun the same command: it re-scores that image",
) -> list[Record]:
    """All records of a file, in the order of its lines, without incomplete last ones.

    See `intact_length`.

    Args:
        path: the file.
        check: raises ValueError for a record that does not belong to the run.
        todo: remedy for a damaged line.

    Raises:
        RecordError: for a file that cannot be read, or a damaged line before the last.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(
            f"records cannot be read ({error.strerror or error})",
            given=str(path),
            todo="move that file away, then rerun the same command",
        ) from error
    records: list[Record] = []
    for number, line in enumerate(data[: intact_length(data)].split(b"\n")[:-1], start=1):
        try:
            record = Record.from_line(line.decode("utf-8"))
            if check is not None:
                check(record)
        except ValueError as error:
            raise RecordError(
                f"line {number} of {path} is damaged ({error})",
                todo=todo,
            ) from error
        records.append(record)
    return records


def intact_length(data: bytes) -> int:
    """Length of the lines of a records file that were written to their end.

    Text after the last newline is the start of a line whose writing was interrupted. After a power
    loss, a file may have its length but not the data of its last blocks, which then read as zeros
    up to the end of a block: such zeros end the intact part, if they lie among the
    lines that need not have reached the disk. Any other zero is damage (JSON escapes it), and
    stays.
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
        RecordError: see `read_records`.
    """
    by_image: dict[str, Record] = {}
    for path in sorted(folder.glob("records-*.jsonl")):
        for record in read_records(path, check):
            by_image.setdefault(record.image_id, record)
    return [by_image[image_id] for image_id in sorted(by_image)]
