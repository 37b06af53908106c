"""Files of offline runs of Weights & Biases, read without it but for its protocol buffers.

They are logs in LevelDB's format after 7 bytes of their own: blocks of 32 KiB with chunks of
(checksum, length, type), of which a record has one or several.

Source: "LevelDB log format", google/leveldb, doc/log_format.md.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, OWN_HEADER = 32768, 7
CHUNK = struct.Struct("<IHB")
LAST_CHUNKS = {1, 4}
"""A whole record, and the end of one."""


def _payloads(data: bytes) -> Iterator[bytes]:
    assert data.startswith(b":W&B")
    place, record = OWN_HEADER, b""
    while place + CHUNK.size <= len(data):
        left = BLOCK - place % BLOCK
        if left < CHUNK.size:
            place += left
            continue
        _, length, kind = CHUNK.unpack_from(data, place)
        place += CHUNK.size + length
        record += data[place - length : place]
        if kind in LAST_CHUNKS:
            yield record
            record = b""


def _values(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def logged(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Points of all runs below a folder, in order, and their configuration by its names."""
    from wandb.proto import wandb_internal_pb2

    points, config = [], {}
    for path in sorted(folder.rglob("*.wandb")):
        for payload in _payloads(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(payload)
            config |= _values(record.run.config.update) | _values(record.config.update)
            if record.WhichOneof("record_type") == "history":
                points.append(_values(record.history.item))
    return points, config
