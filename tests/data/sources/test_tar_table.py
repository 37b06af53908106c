"""Tables of tar shards: keys, images, labels, and what is passed over or refused."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.tar_shards import files_of, image, special, write_tar

from diffcls.data.sources.shard_files import LocalFile
from diffcls.data.sources.tar_index import NO_FILES
from diffcls.data.sources.tar_table import IMAGE, LABEL, NO_SAMPLE, Fields, TarTable
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError

Files = list[tuple[str, bytes]]


def read(
    path: Path, files: Files, fields: Fields | None = None, name: str | None = "shard"
) -> tuple[TarTable, Counter[str]]:
    passed_over = Counter[str]()
    file = LocalFile(write_tar(path / "shard.tar", files))
    return TarTable(file, name, fields or Fields(), passed_over), +passed_over


def gray(table: TarTable, row: int) -> int:
    return int(np.asarray(load_image(table.image(IMAGE, row)))[0, 0, 0])


def test_files_with_one_key_are_one_image_in_the_order_of_the_archive(tmp_path: Path) -> None:
    table, passed_over = read(tmp_path, files_of([7, 3, 5]))
    assert table.paths(IMAGE) == ["shard/s007", "shard/s003", "shard/s005"]
    assert table.values(LABEL) == [1, 0, 2]
    assert [gray(table, row) for row in range(table.count)] == [7, 3, 5]
    assert not passed_over


def test_files_of_a_key_need_not_be_neighbours(tmp_path: Path) -> None:
    files = files_of([7, 3, 5])
    apart, _ = read(tmp_path / "a", [*files[::2], *files[1::2]])
    together, _ = read(tmp_path / "b", files)
    assert apart.paths(IMAGE) == together.paths(IMAGE)
    assert apart.values(LABEL) == together.values(LABEL)
    assert apart.identity == together.identity


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("n01/img_1.jpg", "n01/img_1"),
        ("./a.jpg", "a"),
        ("v1.0/a.JPEG", "v1.0/a"),
        ("/etc/a.png", "/etc/a"),
        ("../../a.webp", "../../a"),
        ("a\nb.jpg", "a\nb"),
    ],
)
def test_key_ends_at_the_first_dot_of_the_file_name(tmp_path: Path, name: str, key: str) -> None:
    table, _ = read(tmp_path, [(name, image(9)), (f"{key}.cls", b"1")])
    assert table.paths(IMAGE) == [f"shard/{key}"]
    assert gray(table, 0) == 9


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_images_may_have_different_formats(tmp_path: Path, kind: str) -> None:
    files = [(f"a.{kind.lower()}", image(128, kind)), ("a.cls", b"0"), *files_of([4])]
    table, _ = read(tmp_path, files)
    assert [gray(table, 0), gray(table, 1)] == [128, 4]


# ---- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "field", "label"),
    [
        ({"cls": b"3"}, None, 3),
        ({"cls": b" 3\n"}, None, 3),
        ({"cls": b"tabby cat\n"}, None, "tabby cat"),
        ({"txt": "Käfer".encode()}, None, "Käfer"),
        ({"txt": b"7"}, None, "7"),
        ({"json": b'{"label": 3}'}, None, 3),
        ({"json": b'{"label": "owl", "width": 4}'}, None, "owl"),
        ({"json": b'{"cls": 2}'}, None, 2),
        ({"json": b'{"label": 3, "kind": "dog"}'}, "json.kind", "dog"),
        ({"cls": b"3", "json": b"no json", "txt": b"\xff"}, None, 3),
        ({"cls": b"3", "json": b'{"label": "owl"}'}, "json", "owl"),
        ({"cls": b"3", "txt": b"owl"}, "txt", "owl"),
        ({"breed": b"beagle", "cls": b"3"}, "breed", "beagle"),
        ({"json": b'{"label": 3}', "txt": b"a caption"}, None, 3),
    ],
)
def test_label_is_read_from_the_file_beside_the_image(
    tmp_path: Path, files: dict[str, bytes], field: str | None, label: int | str
) -> None:
    named = [(f"a.{name}", content) for name, content in files.items()]
    table, _ = read(tmp_path, [("a.png", image(1)), *named], Fields(label=field))
    assert table.values(LABEL) == [label]
    assert type(table.values(LABEL)[0]) is type(label)


@pytest.mark.parametrize(
    ("files", "field", "message"),
    [
        ({}, None, r"no labels in archive: .*a has \.png'; allowed: KEY.cls, KEY.txt"),
        ({"cls": b""}, None, "label is empty: 'a.cls in "),
        ({"cls": b"\xff\xfe"}, None, "label is no text in UTF-8: 'a.cls in "),
        ({"json": b"{"}, None, r"cannot read JSON \(.*'a.json in "),
        ({"json": b"[" * 100_000}, None, r"cannot read JSON \("),
        ({"json": b'{"width": 4}'}, None, r"1 of 1 images without a label in \.json"),
        ({"json": b"[1]"}, None, r"1 of 1 images without a label in \.json"),
        ({"json": b'{"label": 3}'}, "json.kind", r"without a label in \.json\.kind"),
        ({"cls": b"3"}, "kind", r"1 of 1 images without a label in \.kind.*--label-column"),
        ({"txt": b"x" * 2_000_000}, None, "label is too large: 'a.txt in "),
    ],
)
def test_label_that_cannot_be_read_is_an_error(
    tmp_path: Path, files: dict[str, bytes], field: str | None, message: str
) -> None:
    named = [(f"a.{name}", content) for name, content in files.items()]
    with pytest.raises(DataError, match=message):
        read(tmp_path, [("a.png", image(1)), *named], Fields(label=field))


def test_image_without_a_label_is_named(tmp_path: Path) -> None:
    files = [*files_of([1, 2]), ("lost.png", image(3))]
    with pytest.raises(DataError, match=r"1 of 3 images without a label in \.cls.*'shard/lost'"):
        read(tmp_path, files)


# ---- images --------------------------------------------------------------------------------------


def test_label_without_an_image_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    table, _ = read(tmp_path, [*files_of([1, 2]), ("lost.cls", b"1")])
    assert table.count == 3
    with pytest.raises(DataError, match=r"no image with this key: 'shard/lost in .*shard.tar'"):
        table.image(IMAGE, 2)


def test_image_that_is_a_link_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(special("s.png", tarfile.SYMTYPE, "/etc/passwd"))
        for name, content in [("s.cls", b"1"), *files_of([4])]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    passed_over = Counter[str]()
    table = TarTable(LocalFile(path), "shard", Fields(), passed_over)
    assert (table.paths(IMAGE), passed_over[NO_FILES]) == (["shard/s", "shard/s004"], 1)
    with pytest.raises(DataError, match="no image with this key"):
        table.image(IMAGE, 0)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([("s001.png", image(9))], r"file occurs twice in archive: 's001.png in "),
        ([("./s001.png", image(9))], r"file occurs twice in archive"),
        ([("s001.cls", b"1")], r"file occurs twice in archive: 's001.cls"),
        ([("s001.jpg", image(9, "JPEG"))], r"several images with the same key: 's001 in .*--image"),
    ],
)
def test_key_that_is_there_twice_is_an_error(tmp_path: Path, extra: Files, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, [*files_of([1, 2]), *extra])


def test_one_of_several_images_of_a_key_is_selected_by_its_extension(tmp_path: Path) -> None:
    files = [("a.jpg", image(1, "JPEG")), ("a.seg.png", image(2)), ("a.cls", b"0")]
    assert gray(read(tmp_path, files)[0], 0) == 1  # .seg.png is not an image's extension
    assert gray(read(tmp_path, files, Fields(image="seg.png"))[0], 0) == 2


def test_archive_without_images_is_an_error_that_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images in archive: '.*with \.cls, \.txt'.*\.jpg"):
        read(tmp_path, [("a.cls", b"1"), ("b.txt", b"x")])
    with pytest.raises(DataError, match="with nothing"):
        read(tmp_path / "empty", [])
    with pytest.raises(DataError, match=r"with \.cls, \.png'; allowed: \.webp$"):
        read(tmp_path / "other", files_of([1]), Fields(image="webp"))


def test_other_files_are_counted(tmp_path: Path) -> None:
    files = [("README", b""), ("meta.md", b""), ("x/.DS_Store", b""), ("._s001.png", b"")]
    table, passed_over = read(tmp_path, [*files, *files_of([1, 2])])
    assert table.count == 2
    assert passed_over == {NO_SAMPLE: 2, "hidden or system files and folders": 2}


def test_archive_that_changes_during_the_run_is_an_error_of_the_image(tmp_path: Path) -> None:
    table, _ = read(tmp_path, files_of([1, 2]))
    path = tmp_path / "shard.tar"
    content = path.read_bytes()
    path.write_bytes(content + b"\0" * 512)
    with pytest.raises(DataError, match="archive was changed during the run"):
        table.image(IMAGE, 0)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read file \(No such file"):
        table.image(IMAGE, 0)


def test_identity_is_that_of_names_labels_and_images_and_not_of_the_archive(
    tmp_path: Path,
) -> None:
    files = files_of([1, 2, 3])
    first = read(tmp_path / "a", files)[0].identity
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in [("notes.md", b"of another day"), *files]:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname = len(content), 1e9, "someone"
            archive.addfile(member, io.BytesIO(content))
    packed = TarTable(LocalFile(tmp_path / "b.tar"), "shard", Fields(), Counter())
    assert packed.identity == first
    label = [*files[:1], ("s001.cls", b"2"), *files[2:]]
    pixels = [(files[0][0], image(9)), *files[1:]]
    others = [read(tmp_path / f"{i}", other)[0].identity for i, other in enumerate((label, pixels))]
    others.append(read(tmp_path / "c", files, name="other")[0].identity)
    assert len({first, *others}) == 4
