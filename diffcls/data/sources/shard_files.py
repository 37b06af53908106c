"""Files of a sharded data set: read as a stream for the index, and by offset for an image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol

from diffcls.support.errors import DataError


class ShardFile(Protocol):
    """A file of a sharded data set, on this machine or elsewhere."""

    @property
    def shown(self) -> str:
        """Its path or address, for messages."""

    def open(self) -> BinaryIO:
        """The file from its start, with ``seek``; raises DataError if it cannot be opened."""

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; raises DataError if they cannot be read."""


class LocalFile:
    """A file on this machine. It must not change after it was opened first.

    Args:
        path: its path.

    Raises:
        DataError: for a file that does not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path)
        try:
            self._version = _version(os.stat(path))
        except OSError as error:
            raise _unreadable(path, error) from error

    @property
    def shown(self) -> str:
        """Its path."""
        return str(self.path)

    def open(self) -> BinaryIO:
        """The file from its start."""
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; no handle stays open, however many shards there are."""
        try:
            with open(self.path, "rb") as file:
                if _version(os.fstat(file.fileno())) != self._version:
                    raise DataError(
                        "archive was changed during the run",
                        given=self.shown,
                        todo="rerun the command",
                    )
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if len(content) != size:
            raise DataError("archive ends within this image", given=self.shown)
        return content


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot read file ({error.strerror or error})", given=str(path))
