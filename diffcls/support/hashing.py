"""Hashes of files and values, and the canonical JSON text that values are hashed as."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DIGEST_LENGTH = 16
"""Hexadecimal digits of a shortened hash: 64 bits, enough to tell any two apart."""


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: for a number that is not finite.
        TypeError: for a value that JSON does not have.
    """
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def hash_json(value: Any, length: int = DIGEST_LENGTH) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of the value's canonical JSON."""
    return hash_text(canonical_json(value), length)


def hash_text(text: str, length: int = DIGEST_LENGTH) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of a text in UTF-8."""
    return hash_bytes(text.encode("utf-8", "surrogatepass"), length)


def hash_bytes(data: bytes, length: int = DIGEST_LENGTH) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()[:length]


def content_hash(*parts: bytes | str, length: int = DIGEST_LENGTH) -> str:
    """The hash of several parts; ``("ab", "c")`` and ``("a", "bc")`` differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:length]


def file_digest(path: str | os.PathLike[str]) -> bytes:
    """The SHA-256 of a file's content, 32 bytes.

    Raises:
        OSError: for a file that cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def hash_file(path: str | os.PathLike[str], length: int = DIGEST_LENGTH) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of a file's content.

    Raises:
        OSError: for a file that cannot be read.
    """
    return file_digest(path).hex()[:length]


def hash_files(files: Iterable[Path], folder: Path, length: int = DIGEST_LENGTH) -> str:
    """The hash of several files: of their paths below `folder`, and of their contents.

    Raises:
        OSError: for a file that cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(file_digest(path))
    return digest.hexdigest()[:length]
