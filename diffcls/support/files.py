"""Atomic writes and locks of files.

A file is whole at every moment, whichever process writes it and wherever it is cut off. Locks are
`filelock`'s, which work on Linux, macOS and Windows alike; the system releases the lock of a
process that ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from diffcls.support.errors import RecordError, UsageError
from diffcls.support.hashing import hash_text

if TYPE_CHECKING:
    from filelock import BaseFileLock

SECONDS_BEFORE_NOTICE = 2.0
"""Wait for a lock after which stderr names the file that is waited for, and who holds it."""


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Exclusive access to a file while the block runs; other processes and threads wait.

    Args:
        path: the file, which need not exist; its folder is created. Links are followed.

    Yields:
        The real path, to be handed to `write_text` or `write_bytes`.

    Raises:
        UsageError: for a folder that cannot be written.
        RecordError: when the lock cannot be taken for another reason.
    """
    target = Path(os.path.realpath(path))
    with contextlib.ExitStack() as held:
        try:
            create_folder(target.parent)
            held.enter_context(_waited_for(lock_of(target), target))
        except (OSError, RuntimeError) as error:
            raise without_locks(target, error) or _unwritable(target, error) from error
        yield target


def lock_of(target: Path) -> BaseFileLock:
    """The lock of a file, not yet taken: ``.NAME.lock`` beside it."""
    from filelock import FileLock

    # released by whichever thread closes the store that holds it
    return FileLock(target.with_name(f".{target.name}.lock"), thread_local=False)


def try_lock(target: Path) -> BaseFileLock | None:
    """The lock of a file, taken; None when another writer holds it.

    Args:
        target: the file; its folder exists.

    Raises:
        OSError: for a folder that cannot be written.
        UsageError: for a file system without locks.
    """
    from filelock import Timeout

    lock = lock_of(target)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except (OSError, RuntimeError) as error:
        known = without_locks(target, error)
        if known is None:
            raise
        raise known from error
    return lock


def without_locks(target: Path, error: OSError | RuntimeError) -> UsageError | None:
    """The error for a file on a file system without locks; None for any other failure.

    Args:
        target: the file.
        error: of the lock; earlier releases of filelock raise a RuntimeError where ``flock`` lacks.
    """
    if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
        return None
    reason = error.strerror if isinstance(error, OSError) else error
    return UsageError(
        f"--output-dir lies on a file system without file locks ({reason})",
        given=str(target.parent),
        allowed="one with locks: a local disk, or a network file system mounted with them",
        todo="choose another folder; without locks, two processes would write one file",
    )


def _waited_for(lock: BaseFileLock, target: Path) -> BaseFileLock:
    """The lock, taken; stderr names the file and the holder when the wait is long."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=SECONDS_BEFORE_NOTICE)
    except Timeout:
        holder = _holder(Path(lock.lock_file))
        print(f"diffcls: waiting for {target}, held by another {holder}", file=sys.stderr)
        lock.acquire()
    return lock


def _holder(lock_file: Path) -> str:
    """``process (pid 123)``, or ``process`` where the system does not tell which one it is."""
    process = "process"
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = lock_file.stat().st_ino
        for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines():
            # such as "1: FLOCK ADVISORY WRITE 123 fe:00:2556893 0 EOF"; "->" marks those that wait
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
                pid = int(fields[4])
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                return f"process (pid {pid}{', stopped' if state in 'Tt' else ''})"
    return process


def write_text(target: Path, text: str) -> None:
    """Replace a file in one step: afterwards it holds all of `text`, or its previous content.

    Args:
        target: the file. Its permissions stay.
        text: written in UTF-8, line ends unchanged; lone surrogates become escape sequences.

    Raises:
        UsageError, RecordError: see `write_bytes`.
    """
    write_bytes(target, text.encode("utf-8", "backslashreplace"))


def write_bytes(target: Path, data: bytes) -> None:
    """Replace a file in one step: afterwards it holds all of `data`, or its previous content.

    Args:
        target: the file, which only one process writes at a time (see `locked`). Its permissions
            stay.
        data: the content.

    Raises:
        UsageError: for a folder or file that cannot be written.
        RecordError: for any other failure, such as a full disk.
    """
    # one name for all writers, who hold the lock: the file of a killed writer is replaced
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(target, error) from error
        raise
    synchronise(target.parent)


def make_folder(folder: Path) -> None:
    """Create a folder as `create_folder` does.

    Raises:
        UsageError, RecordError: see `write_bytes`.
    """
    try:
        create_folder(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def create_folder(folder: Path) -> None:
    """Create a folder with its parents, unless it exists; a power loss does not undo it.

    Raises:
        OSError: for a folder that cannot be created.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        synchronise(path.parent)


def safe_name(text: str, max_bytes: int = 200) -> str:
    """A file's or folder's name that stands for a text: the text itself wherever it can be one.

    A text that would lead to another folder (``..``, slashes), that is empty, too long or has
    characters that are none of a file name is cleaned, and told apart by a hash at the end.

    Args:
        text: any text.
        max_bytes: largest length of the name in UTF-8.
    """
    clean = "".join(c if c.isprintable() and c not in "/\\:" else "_" for c in text)
    if clean == text and text.strip(". ") and len(text.encode("utf-8")) <= max_bytes:
        return text
    suffix = f"-{hash_text(text, 8)}"
    start = clean.strip(". ").encode("utf-8")[: max_bytes - len(suffix)].decode("utf-8", "ignore")
    return f"{start or 'unnamed'}{suffix}"


def check_output(folder: Path) -> None:
    """Check that an output folder can be made and written; nothing is created.

    Raises:
        UsageError: for a folder that cannot be written.
    """
    existing = next(
        (f for f in (folder, *folder.absolute().parents) if f.exists() or f.is_symlink()), folder
    )
    if not existing.is_dir():
        raise unwritable_output(folder, NotADirectoryError(errno.ENOTDIR, "not a folder"))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise unwritable_output(folder, PermissionError(errno.EACCES, "permission denied"))


def unwritable_output(folder: Path, error: OSError) -> UsageError | RecordError:
    """The error for an output folder that cannot be written; a failing disk is no wrong usage."""
    fails = error.errno in (*_FULL, errno.EIO)
    kind = RecordError if fails else UsageError
    todo = f"{remedy(error)}, then rerun the same command to resume"
    return kind(
        f"--output-dir cannot be written ({error.strerror})",
        given=str(folder),
        todo=todo if fails else "choose another folder",
    )


def remedy(error: OSError) -> str:
    """What to do about a disk that does not take what is written."""
    return "free some space" if error.errno in _FULL else "check the disk"


def synchronise(folder: Path) -> None:
    """Bring a folder's names to disk, on systems where folders can be synchronised."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""What ``flock`` raises where it is not supported: NFS without its lock daemon, some FUSE."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def _unwritable(target: Path, error: Exception) -> UsageError | RecordError:
    number, reason = getattr(error, "errno", None), getattr(error, "strerror", None)
    kind = UsageError if number in _NOT_ALLOWED else RecordError
    return kind(
        f"file cannot be written ({reason or error})",
        given=str(target),
        allowed="a file in a folder that can be written",
        todo="the file is unchanged: choose another output folder or free some space, then rerun",
    )
