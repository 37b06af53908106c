"""Index of a tar archive: names, offsets and sizes of its files, from the headers alone.

Nothing is extracted: a member's name is a text and never a path on this machine; links, devices
and folders are no files and are counted.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from diffcls.support.errors import DataError

COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""First bytes of a file -> its compression, in which no member can be read by its offset."""
NO_FILES = "links and special files in archives"


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive.

    Args:
        name: its path in the archive, as stored.
        offset: position of its first byte in the archive, in bytes.
        size: its length in bytes.
    """

    name: str
    offset: int
    size: int


def members(file: BinaryIO, shown: str, passed_over: Counter[str]) -> Iterator[Member]:
    """The regular files of an archive in their order; contents are skipped by a seek.

    The caller may read from `file` between two members.

    Args:
        file: the archive, at its start.
        shown: its name, for messages.
        passed_over: kind -> count of the members that are no files, which is added to.

    Raises:
        DataError: for a compressed file, or one that is no archive, is truncated or damaged.
        TimeoutError: if the server of the archive does not answer.
    """
    start = file.read(6)
    for magic, kind in COMPRESSIONS.items():
        if start.startswith(magic):
            raise DataError(
                f"archive is compressed ({kind}): its images cannot be read one by one",
                given=shown,
                allowed="uncompressed .tar files",
                todo="decompress it first, for instance with gunzip",
            )
    file.seek(0)
    count = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep every header
                count += 1
                if member.isreg() and not member.issparse():
                    yield Member(member.name, member.offset_data, member.size)
                elif not member.isdir():
                    passed_over[NO_FILES] += 1
            end = archive.offset
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
    except TimeoutError:
        raise  # of a server: the archive is not to blame
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = "too deeply nested headers" if isinstance(error, RecursionError) else str(error)
        raise _broken(reason, shown, count) from error
    # the library ends silently at a header that is no header, and at the end of a cut file
    if len(block) < tarfile.BLOCKSIZE:
        raise _broken("no end-of-archive marker: the file is truncated", shown, count)
    if block.strip(b"\0"):
        raise _broken(f"invalid header at byte {end}", shown, count)


def _broken(reason: str, shown: str, count: int) -> DataError:
    return DataError(
        f"cannot read tar archive ({reason or 'damaged'}), after {count} members",
        given=shown,
        todo="copy or download the archive again",
    )
