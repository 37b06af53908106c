"""Records of one run in several folders: which copy of each image counts, and what contradicts.

Of each record, its place and a hash are held in memory, as a run may have many images and classes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from diffcls.runs.merge_sources import FolderRun, record_files
from diffcls.runs.record import Record, each_record, intact_end
from diffcls.support.errors import RecordError

DAMAGED_TODO = "score that image once more where it was scored, or delete the line; then merge"


@dataclass(frozen=True, slots=True)
class Copy:
    """A record's place, and a hash of it without its time; the record itself stays on disk.

    Args:
        path: its file.
        line: its line, from 1.
        digest: equal for records of equal content.
        seconds: its time.
    """

    path: Path
    line: int
    digest: bytes
    seconds: float


@dataclass
class Copies:
    """The records of one run in all folders.

    Args:
        best: image id -> the copy that counts: that of the target, else the fastest one.
        counts: name of a folder -> images of which it has a record.
        scored: images with scores.
        overlapping: images of which there are several records, equal but for their time.
        incomplete: files whose last line was cut off.
        in_target: images of which the target has a record.
    """

    best: dict[str, Copy] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    scored: int = 0
    overlapping: set[str] = field(default_factory=set)
    incomplete: list[Path] = field(default_factory=list)
    in_target: frozenset[str] = frozenset()

    def add(self, record: Record, path: Path, line: int) -> None:
        """Add a record.

        Raises:
            RecordError: for an image of which there is a record with another content.
        """
        copy = Copy(path, line, _digest(record), record.seconds)
        known = self.best.setdefault(record.image_id, copy)
        if known is copy:
            self.scored += record.error is None
            return
        self.overlapping.add(record.image_id)
        if known.digest != copy.digest:
            raise _contradiction(record, known, copy)
        if record.image_id not in self.in_target and copy.seconds < known.seconds:
            self.best[record.image_id] = copy

    def records_of(self, path: Path) -> list[Record]:
        """The records of a file that count."""
        records = enumerate(each_record(path, todo=DAMAGED_TODO), start=1)
        chosen = ((self.best.get(one.image_id), line, one) for line, one in records)
        return [
            one
            for best, line, one in chosen
            if best is not None and (best.path, best.line) == (path, line)
        ]


_FIELDS = [f.name for f in dataclasses.fields(Record) if f.name != "seconds"]


def _digest(record: Record) -> bytes:
    content = [getattr(record, name) for name in _FIELDS]
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).digest()[:16]


def _contradiction(record: Record, known: Copy, copy: Copy) -> RecordError:
    other = next(islice(each_record(known.path, todo=DAMAGED_TODO), known.line - 1, None))
    names = [name for name in _FIELDS if getattr(other, name) != getattr(record, name)]
    return RecordError(
        f"two records of image {record.image_id!r:.80} differ in {', '.join(names)}: "
        f"line {known.line} of {known.path} and line {copy.line} of {copy.path}",
        todo="delete one of the two lines, then merge",
    )


def read_copies(
    fingerprint: str,
    target: Sequence[FolderRun],
    runs: Sequence[FolderRun],
    n_classes: int | None = None,
) -> Copies:
    """The records of a run in the target and all sources.

    Args:
        fingerprint: the run.
        target: the run in the target, if it is there; its records count before all others.
        runs: the run in each other folder.
        n_classes: number of its classes; None if it is not known.

    Raises:
        RecordError: for a damaged line, a record of another run or with another number of classes,
            and two records of an image that differ.
    """
    copies = Copies()
    counts = set() if n_classes is None else {n_classes}

    def check(record: Record) -> None:
        if record.fingerprint != fingerprint:
            raise ValueError(f"a record of another run, {record.fingerprint!r:.40}")
        if record.error is None:
            counts.add(len(record.scores))
        if len(counts) > 1:
            raise ValueError(f"{len(record.scores)} scores; the run has another number of classes")

    for group in (target, runs):
        for one in group:
            images = set()
            for path in record_files(one.run.folder):
                for line, record in enumerate(each_record(path, check, DAMAGED_TODO), start=1):
                    copies.add(record, path, line)
                    images.add(record.image_id)
                if _is_cut_off(path):
                    copies.incomplete.append(path)
            copies.counts[one.name] = len(images)
        if group is target:
            copies.in_target = frozenset(copies.best)
    return copies


def _is_cut_off(path: Path) -> bool:
    """Whether lines at the end were not written whole, see `diffcls.runs.record.intact_length`."""
    return intact_end(path) < path.stat().st_size
