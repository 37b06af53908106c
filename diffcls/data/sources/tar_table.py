"""Tables of WebDataset shards: tar archives whose files with one key are one labelled image.

``KEY.jpg`` and ``KEY.cls`` are an image and its label; the key ends at the first dot of the file
name. Format: https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from diffcls.data.catalog import Query
from diffcls.data.image_formats import suffixes
from diffcls.data.image_tree import HIDDEN, is_hidden
from diffcls.data.sources.shard_files import ShardFile
from diffcls.data.sources.tables import MAX_READERS
from diffcls.data.sources.tar_index import Member, members
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash
from diffcls.support.text import valid_text

IMAGE, LABEL = "image", "label"
"""Columns of the table."""
LABEL_FIELDS = ("cls", "json", "txt")
"""Files with labels, in order of preference."""
JSON_KEYS = ("label", "cls")
"""Keys of a label in a ``.json`` file, in order of preference."""
SAMPLE = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
MAX_LABEL_BYTES = 1 << 20
MAX_IMAGE_BYTES = 1 << 29
EDGE_BYTES = 256
"""Bytes at both ends of an image that enter the identity of the data set."""
NO_SAMPLE = "files in archives that belong to no image"

Label = int | str | DataError | None
"""A label as read; None: a JSON file without one; DataError: the file cannot be read."""


@dataclass(slots=True)
class _Sample:
    """What is known of a key so far."""

    fields: set[str] = field(default_factory=set)
    image: Member | None = None
    edges: bytes = b""
    labels: dict[str, Label] = field(default_factory=dict)


@dataclass(frozen=True)
class Fields:
    """Which files of a key are read.

    Args:
        image: extension of the images, such as ``jpg``; None: any that is an image's.
        label: extension of the labels, ``json.KEY`` for a key of JSON files; None: the first of
            `LABEL_FIELDS` that occurs in the shard.
    """

    image: str | None = None
    label: str | None = None

    def is_image(self, name: str) -> bool:
        """Whether an extension is that of an image."""
        return name == self.image if self.image else f".{name}" in suffixes()


class TarTable:
    """Table of one shard: a column of images and one of labels, a row per key, in file order.

    Args:
        file: the archive. Its headers and labels are read at once, images when they are asked for.
        name: name of the shard, at the start of its rows' names; None: rows have no names.
        fields: which files are read.
        passed_over: kind -> count of what is passed over, which is added to.

    Raises:
        DataError: for a damaged archive, a file that occurs twice, a key with several images, a
            label that is missing or cannot be read, or no image.
    """

    def __init__(
        self, file: ShardFile, name: str | None, fields: Fields, passed_over: Counter[str]
    ) -> None:
        self._file, self._named = file, name is not None
        samples = self._samples(fields, passed_over)
        rows = {k: s for k, s in samples.items() if s.image is not None}
        if not rows:
            found = sorted({one for s in samples.values() for one in s.fields})
            raise DataError(
                "no images in archive",
                given=f"{file.shown} with {', '.join('.' + one for one in found[:8]) or 'nothing'}",
                allowed=f".{fields.image}" if fields.image else suffixes(),
            )
        self.label_field = fields.label or _label_field(file, rows)
        # a label without an image is an image that cannot be read; without both, it is none
        rows = {k: s for k, s in samples.items() if s.image or self.label_field in s.labels}
        passed_over[NO_SAMPLE] += sum(len(s.fields) for k, s in samples.items() if k not in rows)
        self._ids = [valid_text(f"{name}/{key}" if name else key) for key in rows]
        self._labels = [_label(sample, self.label_field) for sample in rows.values()]
        self._offsets = array("q", (s.image.offset if s.image else -1 for s in rows.values()))
        self._sizes = array("q", (s.image.size if s.image else -1 for s in rows.values()))
        missing = [one for one, label in zip(self._ids, self._labels, strict=True) if label is None]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(rows)} images without a label in .{self.label_field}",
                given=missing[:3],
                todo="add the labels, or select another file with --label-column",
            )
        edges = (part for s in rows.values() for part in (str(s.image and s.image.size), s.edges))
        self.identity = content_hash(*map(repr, self._ids), *map(repr, self._labels), *edges)

    def _samples(self, fields: Fields, passed_over: Counter[str]) -> dict[str, _Sample]:
        samples: dict[str, _Sample] = {}
        labels = {fields.label.partition(".")[0], fields.label} if fields.label else {*LABEL_FIELDS}
        with self._file.open() as file:
            for member in members(file, self._file.shown, passed_over):
                path = re.sub(r"^(\./)+", "", member.name)
                parts = SAMPLE.fullmatch(path)
                if any(part not in (".", "..") and is_hidden(part) for part in path.split("/")):
                    passed_over[HIDDEN] += 1
                elif parts is None:
                    passed_over[NO_SAMPLE] += 1
                else:
                    key, name = parts[1], parts[2].lower()
                    sample = samples.setdefault(key, _Sample())
                    if name in sample.fields:
                        raise DataError(
                            "file occurs twice in archive",
                            given=f"{valid_text(path)} in {self._file.shown}",
                            todo="write the archive again with one file of each name",
                        )
                    sample.fields.add(name)
                    if fields.is_image(name):
                        self._add_image(sample, member, file, valid_text(key))
                    elif name in labels:
                        place = f"{valid_text(path)} in {self._file.shown}"
                        content = _content(file, member, place)
                        sample.labels |= _read_label(name, content, fields.label, place)
        return samples

    def _add_image(self, sample: _Sample, member: Member, file: BinaryIO, key: str) -> None:
        if sample.image is not None:
            raise DataError(
                "several images with the same key",
                given=f"{key} in {self._file.shown}: {', '.join(sorted(sample.fields))}",
                todo="select one of these extensions with --image-column",
            )
        file.seek(member.offset)
        edges = file.read(min(member.size, EDGE_BYTES))
        if member.size > EDGE_BYTES:
            file.seek(member.offset + member.size - EDGE_BYTES)
            edges += file.read(EDGE_BYTES)
        sample.image, sample.edges = member, hashlib.sha256(edges).digest()

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self._ids)

    @property
    def columns(self) -> Sequence[str]:
        """The columns `IMAGE` and `LABEL`."""
        return (IMAGE, LABEL)

    @property
    def features(self) -> Mapping[str, Any]:
        """Archives declare no types."""
        return {}

    def values(self, column: str) -> list[Any]:
        """The labels."""
        return list(self._labels)

    def paths(self, column: str) -> list[str | None]:
        """``SHARD/KEY`` of each row, if it has a name."""
        return list(self._ids) if self._named else [None] * self.count

    def files_beside(self, column: str) -> list[Path]:
        """None: images lie in the archive."""
        return []

    def image(self, column: str, row: int) -> bytes:
        """Encoded image of a row.

        Raises:
            DataError: for a key with a label but without an image, and for an archive that cannot
                be read.
        """
        size = self._sizes[row]
        if size < 0 or size > MAX_IMAGE_BYTES:
            raise DataError(
                "no image with this key" if size < 0 else f"image of {size:,} bytes is too large",
                given=f"{self._ids[row]} in {self._file.shown}",
            )
        return self._file.read(self._offsets[row], size)


def read_tables(
    shards: Mapping[str, ShardFile], query: Query, passed_over: Counter[str], named: bool = True
) -> list[TarTable]:
    """Tables of all shards, whose labels are of the kind that the first shard has.

    Several shards are read at a time, as most of the time passes waiting for a disk or a server.

    Args:
        shards: name -> file.
        query: request for the images, with the extensions of images and labels if given.
        passed_over: kind -> count of what is passed over, which is added to.
        named: whether rows have names.
    """
    image, label = (c and c.lower() for c in (query.image_column, query.label_column))

    def read(name: str, fields: Fields) -> tuple[TarTable, Counter[str]]:
        counts = Counter[str]()
        return TarTable(shards[name], name if named else None, fields, counts), counts

    first, *others = shards
    read_first = read(first, Fields(image, label))
    fields = Fields(image, read_first[0].label_field)
    with ThreadPoolExecutor(MAX_READERS) as pool:
        results = [read_first, *pool.map(partial(read, fields=fields), others)]
    for _, counts in results:
        passed_over.update(counts)
    return [table for table, _ in results]


def _label_field(file: ShardFile, rows: Mapping[str, _Sample]) -> str:
    """The kind of labels that a shard has."""
    for name in LABEL_FIELDS:
        if any(name in sample.labels for sample in rows.values()):
            return name
    key, sample = next(iter(rows.items()))
    raise DataError(
        "no labels in archive",
        given=f"{file.shown}, where {valid_text(key)} has .{' .'.join(sorted(sample.fields))}",
        allowed="KEY.cls, KEY.txt, or KEY.json with the key label",
        todo="name the extension of the labels with --label-column",
    )


def _label(sample: _Sample, name: str) -> int | str | None:
    value = sample.labels.get(name)
    if isinstance(value, DataError):
        raise value
    return value


def _content(file: BinaryIO, member: Member, place: str) -> bytes:
    if member.size > MAX_LABEL_BYTES:
        raise DataError("label is too large", place, f"at most {MAX_LABEL_BYTES:,} bytes")
    file.seek(member.offset)
    return file.read(member.size)


def _read_label(name: str, content: bytes, given: str | None, place: str) -> dict[str, Label]:
    """The label in a file, under the name by which it is selected."""
    if name == "json" or name.endswith(".json"):
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            reason = str(error) or "too deeply nested"
            return {given or name: DataError(f"cannot read JSON ({reason})", given=place)}
        row = value if isinstance(value, dict) else {}
        if given and given != name:
            return {given: row.get(given.partition(".")[2])}
        return {name: next((row[key] for key in JSON_KEYS if row.get(key) is not None), None)}
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return {name: DataError("label is no text in UTF-8", given=place)}
    if not text:
        return {name: DataError("label is empty", given=place)}
    if name != "txt" and WHOLE_NUMBER.fullmatch(text):
        return {name: int(text)}
    return {name: text}
