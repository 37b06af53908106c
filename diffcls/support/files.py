"""Files that are whole at every moment, whoever writes them and whatever goes wrong."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from diffcls.support.errors import RecordError, UsageError


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The only writer of a file, for as long as the block runs; others wait for it.

    Args:
        path: the file, which need not exist; its folder is made. Links are followed.

    Yields:
        The real path, to be handed to `write_text`.

    Raises:
        UsageError: for a folder that cannot be written.
        RecordError: where the lock fails otherwise.
    """
    target = Path(os.path.realpath(path))
    with contextlib.ExitStack() as held:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(open(target.with_name(f".{target.name}.lock"), "ab"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise _unwritable(target, error) from error
        # the lock file stays: removing it would let two writers hold two locks of one name
        yield target


def write_text(target: Path, text: str) -> None:
    """Replace a file in one step: afterwards it holds all of `text`, or what it held before.

    Args:
        target: the file, within `locked`. Its permissions stay.
        text: written in UTF-8, its line ends as they are.

    Raises:
        UsageError, RecordError: see `write_bytes`.
    """
    write_bytes(target, text.encode("utf-8"))


def write_bytes(target: Path, data: bytes) -> None:
    """Replace a file in one step: afterwards it holds all of `data`, or what it held before.

    Args:
        target: the file, within `locked`. Its permissions stay.
        data: its content.

    Raises:
        UsageError: for a folder or file that cannot be written.
        RecordError: for any other failure, a full disk for instance.
    """
    # one name for all writers, as only one at a time gets here: what a killed one left is replaced
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(target, error) from error
        raise
    # the new name reaches the disk too, where folders can be synchronised
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def _unwritable(target: Path, error: OSError) -> UsageError | RecordError:
    kind = UsageError if error.errno in _NOT_ALLOWED else RecordError
    return kind(
        f"file cannot be written ({error.strerror or error})",
        given=str(target),
        allowed="a file in a folder that can be written",
        todo="the file is as it was: choose another output folder, or make room, and run again",
    )
