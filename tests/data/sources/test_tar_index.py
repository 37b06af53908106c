"""Index of tar archives: what the headers say, and archives that are none or damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tar_shards import files_of, special, write_tar

from diffcls.data.sources.tar_index import NO_FILES, Member, members
from diffcls.support.errors import DataError

CONTENTS = [("a.txt", b"one"), ("dir/b.txt", b"2" * 512), ("c.txt", b""), ("é/d.txt", b"4" * 600)]


def index(path: Path) -> tuple[list[Member], Counter[str]]:
    passed_over = Counter[str]()
    with path.open("rb") as file:
        return list(members(file, path.name, passed_over)), passed_over


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_offsets_and_sizes_are_those_of_the_contents(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "a.tar"
    long = ("x" * 90 + "/" + "y" * 60 + ".txt", b"long")
    with tarfile.open(path, "w", format=kind) as archive:
        for name, content in [*CONTENTS, long]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    data, (found, passed_over) = path.read_bytes(), index(path)
    assert [(m.name, data[m.offset : m.offset + m.size]) for m in found] == [*CONTENTS, long]
    assert not passed_over


def test_caller_may_read_between_two_members(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", CONTENTS)
    read = []
    with path.open("rb") as file:
        for member in members(file, "a", Counter()):
            file.seek(member.offset)
            read.append((member.name, file.read(member.size)))
            file.seek(0)
    assert read == CONTENTS


def test_links_and_devices_are_counted_and_never_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(special("link.jpg", tarfile.SYMTYPE, "/etc/passwd"))
        archive.addfile(special("hard.jpg", tarfile.LNKTYPE, "../../etc/passwd"))
        archive.addfile(special("device.jpg", tarfile.CHRTYPE))
        archive.addfile(special("pipe.jpg", tarfile.FIFOTYPE))
        archive.addfile(special("folder", tarfile.DIRTYPE))
    assert index(path) == ([], Counter({NO_FILES: 4}))


def test_headers_do_not_stay_in_memory(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"{i}.cls", b"1") for i in range(500)])
    with path.open("rb") as file:
        kept: list[int] = []
        opened = tarfile.open

        def watched(*args: object, **options: object) -> tarfile.TarFile:
            archive = opened(*args, **options)  # type: ignore[call-overload]
            kept.append(0)
            watched.archive = archive  # type: ignore[attr-defined]
            return archive  # type: ignore[no-any-return]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tarfile, "open", watched)
            for _ in members(file, "a", Counter()):
                kept.append(len(watched.archive.members))  # type: ignore[attr-defined]
    assert max(kept) <= 1


def test_archive_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", CONTENTS).read_bytes()
    end = 512 * 10  # four headers, contents of 1, 1, 0 and 2 blocks, and 2 of the name é
    assert not whole[end:].strip(b"\0")
    cut = tmp_path / "cut.tar"
    for length in [*range(0, end, 128), end, end + 511]:
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cannot read tar archive .*: 'cut.tar'; copy or"):
            index(cut)
    cut.write_bytes(whole[: end + 512])
    assert len(index(cut)[0]) == 4  # one block of zeros is an end


def test_header_that_is_none_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", CONTENTS)
    data = bytearray(path.read_bytes())
    data[1024:1030] = b"XXXXXX"  # the name of the second member
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"invalid header at byte 1024\), after 1 members"):
        index(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\xff" * 2000, b"x" * 512])
def test_file_that_is_no_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot read tar archive"):
        index(path)


@pytest.mark.parametrize(
    ("kind", "compress"), [("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)]
)
def test_compressed_archive_is_refused_with_its_remedy(
    tmp_path: Path, kind: str, compress: Callable[[bytes], bytes]
) -> None:
    path = write_tar(tmp_path / "a.tar", CONTENTS)
    path.write_bytes(compress(path.read_bytes()))
    with pytest.raises(DataError, match=rf"compressed \({kind}\).*decompress it first"):
        index(path)


def test_headers_nested_without_end_are_an_error(tmp_path: Path) -> None:
    long_name = special("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    header: bytes = long_name.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "a.tar"
    path.write_bytes(header * 5000)
    with pytest.raises(DataError, match="cannot read tar archive"):
        index(path)


def test_changed_byte_changes_no_index_without_an_error(tmp_path: Path) -> None:
    # the name é has a header of its own, whose content has no checksum
    whole = bytearray(write_tar(tmp_path / "a.tar", CONTENTS[:3]).read_bytes()[: 512 * 6])
    truth = index(tmp_path / "a.tar")
    path, errors = tmp_path / "b.tar", 0
    for position in range(0, len(whole), 13):
        whole[position] ^= 0xFF
        path.write_bytes(whole)
        try:
            assert index(path) == truth
        except DataError:
            errors += 1
        whole[position] ^= 0xFF
    assert errors > len(whole) / 13 / 3  # of those in headers


@pytest.mark.parametrize("size", [b"77777777777", b"\x80" + b"\xff" * 10, b"\xff" * 11])
def test_size_that_no_file_has_is_an_error(tmp_path: Path, size: bytes) -> None:
    path = write_tar(tmp_path / "a.tar", CONTENTS)
    data = bytearray(path.read_bytes())
    data[124:135] = size  # of the first member
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot read tar archive"):
        index(path)


def test_server_that_does_not_answer_is_no_damage_of_the_archive(tmp_path: Path) -> None:
    content = write_tar(tmp_path / "a.tar", files_of([1, 2, 3])).read_bytes()

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 1024:
                raise TimeoutError("no response from https://host/a.tar (ConnectTimeout)")
            return super().read(size)

    with pytest.raises(TimeoutError, match="no response from https:"):
        list(members(Failing(content), "https://host/a.tar", Counter()))
