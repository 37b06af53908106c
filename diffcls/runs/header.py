"""Header of a run, ``run.json``: its specification, batch shape, threads and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffcls.runs.record import MAX_CLASSES
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.hashing import hash_json
from diffcls.support.stored_json import (
    FLAG,
    OBJECT,
    TEXT,
    first_breach,
    integer,
    number_above,
    optional,
    parse_json,
)

MAX_BATCH_SIZE = 65_536
MAX_THREADS = 1024
MAX_IMAGE_SIZE = 100_000
MAX_IMAGES = 2**53

REQUIRED = {
    "fingerprint": TEXT,
    "spec": OBJECT,
    "batch_size": integer(1, MAX_BATCH_SIZE),
    "threads": integer(1, MAX_THREADS),
    "posterior_scale": optional(number_above(0)),
    "device": TEXT,
    "versions": TEXT,
    "commit": TEXT,
    "command": TEXT,
    "date": TEXT,
}
"""Keys of ``run.json`` that a resumed run needs, with their allowed values."""
OPTIONAL = {
    "img_size": optional(integer(1, MAX_IMAGE_SIZE)),
    "model_source": TEXT,
    "options": optional(OBJECT),
    "compiled": FLAG,
    "halved_batch_size": integer(1, MAX_BATCH_SIZE),
    "n_asked": integer(1, MAX_IMAGES),
    "n_classes": integer(1, MAX_CLASSES),
    "setting": TEXT,
    "supervision": TEXT,
}
"""Keys that earlier versions did not write, or that most runs lack. The source of a model in memory
is for people; whether the network is compiled affects last bits, as batch shape and threads do. The
halved batch size is the smallest that the run needed, where a device had no memory for its own. The
last four are `diffcls.runs.run_row.FACTS`."""

REMEDY = "move the run's folder away, then rerun the same command"


def check_proposed(header: Mapping[str, Any]) -> None:
    """Refuse a header that `read_header` would not accept, before anything is written.

    Args:
        header: the proposed keys; those that are missing are not checked.

    Raises:
        UsageError: for a value that is not allowed, such as a batch size without bounds.
    """
    breach = first_breach(header, REQUIRED | OPTIONAL)
    if breach is not None:
        flag = breach.key in ("batch_size", "threads", "img_size")
        name = f"--{breach.key.replace('_', '-')}" if flag else f"{breach.key} of the run"
        raise UsageError(f"{name} out of range: {breach.given}", allowed=breach.allowed)


def read_header(path: Path) -> dict[str, Any]:
    """The header of a run from its ``run.json``.

    Args:
        path: the file; its folder is named by the run's fingerprint.

    Raises:
        RecordError: for a file that cannot be read, lacks a key, holds a value that is not allowed,
            or describes another run than that of its folder.
    """
    try:
        header = parse_json(path.read_bytes())
        if type(header) is not dict:
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise RecordError(
            f"the run's header cannot be read ({error})", given=str(path), todo=REMEDY
        ) from error
    missing = sorted(REQUIRED.keys() - header.keys())
    if missing:
        raise RecordError(
            f"the run's header lacks {', '.join(missing)}: another version of diffcls wrote it",
            given=str(path),
            todo=REMEDY,
        )
    breach = first_breach(header, REQUIRED | OPTIONAL)
    if breach is not None:
        raise RecordError(
            f"the run's header is damaged: {breach.key} is {breach.given}",
            given=str(path),
            allowed=breach.allowed,
            todo=REMEDY,
        )
    fingerprint = path.parent.name
    try:
        described = hash_json(header["spec"])
    except RecursionError:
        described = ""
    if not header["fingerprint"] == fingerprint == described:
        raise RecordError(
            "the run's header is damaged: its spec is that of another run",
            given=str(path),
            allowed=f"the spec with fingerprint {fingerprint}",
            todo=REMEDY,
        )
    return header
