"""Data of strangers: archives are read where they lie, and no member of one becomes a file."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from helpers.small_hub import encoded, fill

from diffcls.data.load import load_dataset

pytest.importorskip("datasets")
AIRCRAFT = "clip-benchmark/wds_fgvc_aircraft"
ESCAPES = ("../../../../escaped", "/diffcls-escaped", "a/../../escaped", "./.ssh/escaped")
"""Names of members that would be written outside of a folder, or hidden in it."""


def hostile_archive(outside: Path) -> bytes:
    """Images under names that lead out of any folder, and links to a file outside."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for i, name in enumerate(ESCAPES):
            for suffix, content in (("webp", encoded(10 * i, "WEBP")), ("cls", b"1")):
                member = tarfile.TarInfo(f"{name}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        for kind, name in ((tarfile.SYMTYPE, "soft"), (tarfile.LNKTYPE, "hard")):
            link = tarfile.TarInfo(f"{name}.webp")
            link.type, link.linkname = kind, str(outside)
            tar.addfile(link)
    return file.getvalue()


def test_members_of_an_archive_are_read_and_never_extracted(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("extract", "extractall", "_extract_one", "_extract_member"):
        if hasattr(tarfile.TarFile, name):
            monkeypatch.setattr(tarfile.TarFile, name, refuse)
    outside = tmp_path / "secret.webp"
    outside.write_bytes(encoded(99, "WEBP"))
    files = {"test/0.tar": hostile_archive(outside), "test/nshards.txt": b"1\n"}
    fill(cache, AIRCRAFT, {**files, "classnames.txt": b"707-320\nA_300\n"})
    before = outside_of(cache, tmp_path)
    dataset = load_dataset("fgvc_aircraft")
    shades = {item.open().convert("L").getpixel((0, 0)) for item in dataset.items}
    assert shades == {0, 10, 20, 30}  # and none of the file that the links name
    assert outside_of(cache, tmp_path) == before
    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name]
    assert not Path("/diffcls-escaped.webp").exists()


def outside_of(cache: Path, folder: Path) -> set[Path]:
    """Files of a folder that are not in the libraries' home."""
    return {p for p in folder.rglob("*") if cache.parent not in (p, *p.parents)}


def refuse(*given: object, **more: object) -> None:
    raise AssertionError("an archive is extracted")
