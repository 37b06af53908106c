"""Images below a folder: links, hidden files, and counts of everything else."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.image_folders import encoded, tree
from PIL import Image, features

from diffcls.data.image_formats import FORMATS, OPTIONAL_FORMATS, formats, suffixes
from diffcls.data.image_tree import images_below

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")


def found(root: Path) -> tuple[list[str], dict[str, int]]:
    passed_over = Counter[str]()
    paths = images_below(root, passed_over)
    return [path.relative_to(root).as_posix() for path in paths], dict(passed_over)


def test_hidden_and_system_entries_are_left_out_at_every_depth(tmp_path: Path) -> None:
    hidden = [".ds/1.png", "a/.ipynb_checkpoints/1.png", "a/b/._1.png", "a/__MACOSX/x/1.png"]
    tree(tmp_path, ["1.png", "a/1.png", "a/b/1.png", *hidden, "a/@eaDir/1.png"])
    assert found(tmp_path) == (
        ["1.png", "a/1.png", "a/b/1.png"],
        {"hidden or system files and folders": 5},
    )


def test_every_suffix_that_pillow_reads_is_an_image(tmp_path: Path) -> None:
    names = [f"x{suffix}" for suffix in suffixes()] + [f"y{s.upper()}" for s in suffixes()]
    tree(tmp_path, names)
    assert set(found(tmp_path)[0]) == set(names)
    common = ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm"
    assert set(common.split()) <= set(suffixes())
    assert ("AVIF" in formats(), "JPEG2000" in formats()) == (
        features.check("avif"),
        features.check("jpg_2000"),
    )
    assert (".avif" in suffixes(), ".jp2" in suffixes()) == (
        features.check("avif"),
        features.check("jpg_2000"),
    )


@pytest.mark.parametrize("kind", [*FORMATS, *OPTIONAL_FORMATS])
def test_file_without_suffix_is_an_image_by_its_content(kind: str, tmp_path: Path) -> None:
    if kind not in formats():
        pytest.skip(f"Pillow without {kind}")
    tree(tmp_path, ["image"], encoded(kind, "RGB"))
    tree(tmp_path, ["LICENSE"], b"Copyright")
    tree(tmp_path, ["BMesque", "empty"], b"")
    assert found(tmp_path) == (["image"], {"other files without suffix": 3})


def test_other_files_are_counted_by_suffix(tmp_path: Path) -> None:
    tree(tmp_path, ["a/1.txt", "2.TXT", "3.xml", "1.png"])
    assert found(tmp_path) == (["1.png"], {"*.txt": 2, "*.xml": 1})


@needs_links
def test_links_are_followed_and_links_to_nothing_counted(tmp_path: Path) -> None:
    tree(tmp_path / "store", ["1.png", "more/2.png"])
    root = tmp_path / "root"
    tree(root, ["0.png"])
    (root / "linked").symlink_to(tmp_path / "store")
    (root / "file.png").symlink_to(tmp_path / "store" / "1.png")
    (root / "gone.png").symlink_to(tmp_path / "none.png")
    (root / "itself").symlink_to(root / "itself")
    assert found(root) == (
        ["0.png", "file.png", "linked/1.png", "linked/more/2.png"],
        {"links to nothing": 2},
    )


@needs_links
def test_links_back_end_no_loop(tmp_path: Path) -> None:
    tree(tmp_path, ["a/1.png", "a/b/2.png"])
    (tmp_path / "a" / "b" / "up").symlink_to("..")
    (tmp_path / "a" / "top").symlink_to(tmp_path)
    (tmp_path / "a" / "around").symlink_to(tmp_path.parent)
    assert found(tmp_path / "a") == (
        ["1.png", "b/2.png"],
        {"links to folders that are read already": 3},
    )


@needs_links
def test_folder_is_read_once_by_its_own_path_if_it_has_one(tmp_path: Path) -> None:
    tree(tmp_path, ["z/1.png"])
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert found(tmp_path)[0] == ["z/1.png"]


@needs_links
def test_chain_of_double_links_takes_no_exponential_time(tmp_path: Path) -> None:
    for i in range(40):
        folder = tmp_path / "store" / f"{i:02d}"
        tree(folder, ["1.png"])
        for name in ("left", "right"):
            (folder / name).symlink_to(tmp_path / "store" / f"{i + 1:02d}")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "start").symlink_to(tmp_path / "store" / "00")
    assert len(found(tmp_path / "root")[0]) == 40


def test_deep_folders_are_read(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d"] * 300)
    tree(folder, ["1.png"])
    assert len(found(tmp_path)[0]) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path) == ([], {"special files": 2})


def test_image_too_large_for_pillow_is_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    tree(tmp_path, ["huge"])
    assert found(tmp_path)[0] == ["huge"]
