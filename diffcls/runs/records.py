"""What a run is, and what it has found so far: one line an image, appended, never rewritten."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from diffcls.diffusion.parameterization import stored_weighting
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import locked, write_text

SCORING_VERSION = 2
"""Part of every fingerprint; it goes up whenever a change to the code changes numbers."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that defines a run's numbers, and nothing that does not.

    Device, workers and paths are left out; batch shape and threads touch only the last bits and
    stand in the run's header instead.

    Args:
        dataset, data_revision, split, subset: which images; `subset` is ``all`` or names the rule
            and a hash of the chosen image ids.
        class_names, prompts, class_of: see `diffcls.data.prompts.PromptSet`.
        model, model_revision: which weights.
        method: one of the methods' names.
        search, search_options: the search and all its options, defaults filled in.
        img_size: side of the images, in pixels.
        loss, weighting, seed, dtype: as the flags of the same name.
        noise: hash of a noise file, or empty.
        interpolation, aggregate, vote, allocation: as the flags of the same name. They came later:
            at their defaults they are no part of the fingerprint, so that older runs keep theirs.
    """

    dataset: str
    data_revision: str
    split: str
    subset: str
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    class_of: tuple[int, ...]
    model: str
    model_revision: str
    method: str
    search: str
    search_options: Mapping[str, Any]
    img_size: int
    loss: str
    weighting: str
    seed: int
    dtype: str
    noise: str = ""
    scoring_version: int = SCORING_VERSION
    interpolation: str = "bicubic"
    aggregate: str = "classes"
    vote: str = "mean"
    allocation: str = "even"

    def as_dict(self) -> dict[str, Any]:
        """The spec in plain JSON types."""
        plain: dict[str, Any] = json.loads(
            canonical({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        )
        for name in ("interpolation", "aggregate", "vote", "allocation"):
            if plain[name] == type(self).__dataclass_fields__[name].default:
                del plain[name]
        plain["weighting"] = stored_weighting(self.weighting)
        return plain

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: the start of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(canonical(self.as_dict()).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """One image, one method, one line.

    Args:
        fingerprint: of the run.
        image_id, label: which image, and its class index.
        ranking: class indices, best first; empty for a failed image.
        scores: by class index; empty for a failed image; None where a score is not finite.
        evaluations, seconds: what it cost.
        error: what went wrong, or None.
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
        """The JSON line, its checksum last, with the newline."""
        body = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        body["scores"] = [s if s is None or math.isfinite(s) else None for s in self.scores]
        whole = {**body, "checksum": checksum(body)}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Record:
        """The record of a JSON line.

        Raises:
            ValueError: when it is no such line, or its checksum does not hold.
        """
        body = json.loads(line)
        if not isinstance(body, dict) or body.pop("checksum", None) != checksum(body):
            raise ValueError("checksum does not hold")
        fields = {f.name for f in dataclasses.fields(cls)}
        if set(body) != fields:
            raise ValueError(f"keys {sorted(body)} instead of {sorted(fields)}")
        body["ranking"], body["scores"] = tuple(body["ranking"]), tuple(body["scores"])
        record = cls(**body)
        if record.to_line() != line.rstrip("\n") + "\n":  # 1E5 for 1e5, say: equal, yet not ours
            raise ValueError("line is not as it was written")
        return record


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def checksum(body: Mapping[str, Any]) -> str:
    """16 hexadecimal digits over the rest of a line."""
    return hashlib.sha256(canonical(dict(body)).encode()).hexdigest()[:16]


class RecordStore:
    """The records of one run: ``ROOT/runs/FINGERPRINT/records-i-of-n.jsonl`` and ``run.json``.

    Several shards of a run write side by side, each to its own file, and all read all files, so a
    run begun with one number of shards can go on with another.

    Args:
        root: the output folder.
        spec: what the run is.
        shard: (i, n), i counts from 0.

    Raises:
        UsageError: when the folder cannot be written, or another process holds this shard.
        RecordError: when a stored line, other than a torn last one, is damaged.
    """

    def __init__(self, root: Path, spec: RunSpec, shard: tuple[int, int] = (0, 1)) -> None:
        self.spec = spec
        self.fingerprint = spec.fingerprint
        self.folder = root / "runs" / self.fingerprint
        self.path = self.folder / f"records-{shard[0]}-of-{shard[1]}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise UsageError(
                f"cannot write to the output folder ({error.strerror})",
                given=str(root),
                todo="choose another --output-dir",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UsageError(
                "another process is writing this shard of the run",
                given=str(self.path),
                todo="wait for it, or give each process its own --shard i/n",
            ) from None
        try:
            _drop_torn_line(self.path)
            self.done = {record.image_id for record in self.records()}
        except BaseException:
            self._file.close()  # or the shard would stay locked for as long as this object lives
            raise

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring everything to disk and let the shard go."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def header(self, proposed: Mapping[str, Any]) -> dict[str, Any]:
        """The run's header: the stored one where there is one, else `proposed`, now stored.

        A resumed run so goes on with the batch shape and threads that it was begun with.
        """
        body = {"fingerprint": self.fingerprint, "spec": self.spec.as_dict(), **proposed}
        text = json.dumps(body, indent=2, allow_nan=False) + "\n"
        with locked(self.folder / "run.json") as path:
            if not path.exists():  # the first of several shards wins
                write_text(path, text)
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecordError(
                f"the run's header cannot be read ({error})",
                given=str(path),
                todo="move the run's folder away and start again",
            ) from error
        return stored

    def append(self, record: Record) -> None:
        """Write one line, at once."""
        try:
            self._file.write(record.to_line())
            self._file.flush()
        except OSError as error:
            raise RecordError(
                f"cannot write a record ({error.strerror})",
                given=str(self.path),
                todo="make room, then run the same command again: it goes on from here",
            ) from error
        self.done.add(record.image_id)

    def records(self) -> list[Record]:
        """All records of all shards, one an image, ordered by image id."""
        found: dict[str, Record] = {}
        for path in sorted(self.folder.glob("records-*.jsonl")):
            for record in read_records(path):
                if record.fingerprint != self.fingerprint:
                    raise RecordError(
                        f"{path} holds a record of another run", given=record.fingerprint
                    )
                found.setdefault(record.image_id, record)
        return [found[image_id] for image_id in sorted(found)]


def read_records(path: Path) -> list[Record]:
    """All records of a file; a torn last line is passed over.

    Raises:
        RecordError: for a damaged line before the last.
    """
    lines = path.read_bytes().split(b"\n")
    whole, torn = lines[:-1], lines[-1]  # what follows the last newline was cut off in writing
    del torn
    records: list[Record] = []
    for number, line in enumerate(whole, start=1):
        try:
            records.append(Record.from_line(line.decode("utf-8")))
        except (ValueError, TypeError, AttributeError) as error:
            raise RecordError(
                f"line {number} of {path} is damaged ({error})",
                todo="delete that line, then run the same command again: it scores that image anew",
            ) from error
    return records


def _drop_torn_line(path: Path) -> None:
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        os.truncate(path, end)


def shard_of(count: int, shard: tuple[int, int]) -> Sequence[int]:
    """The positions of shard (i, n) among `count` images: every n-th from i.

    Raises:
        UsageError: unless 0 <= i < n.
    """
    i, n = shard
    if not (n >= 1 and 0 <= i < n):
        raise UsageError("shard out of range", given=f"{i}/{n}", allowed="i/n with 0 <= i < n")
    return range(i, count, n)
