"""A shared folder: links that somebody else left in it lead no write to another file."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest

from diffcls.support.errors import DiffclsError
from diffcls.support.files import locked, write_text

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "victim"
    path.parent.mkdir()
    path.write_text("mine")
    return path


def test_link_in_place_of_the_temporary_file_is_replaced_and_not_followed(
    tmp_path: Path, victim: Path
) -> None:
    target = tmp_path / "leaderboard.csv"
    (tmp_path / ".leaderboard.csv.tmp").symlink_to(victim)
    write_text(target, "rows")
    assert (target.read_text(), victim.read_text()) == ("rows", "mine")
    assert not (tmp_path / ".leaderboard.csv.tmp").is_symlink()


def test_link_in_place_of_a_lock_empties_no_file(tmp_path: Path, victim: Path) -> None:
    (tmp_path / ".leaderboard.csv.lock").symlink_to(victim)
    with contextlib.suppress(OSError, DiffclsError), locked(tmp_path / "leaderboard.csv"):
        pass  # whether it is taken or refused
    assert victim.read_text() == "mine"


def test_files_are_as_private_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with locked(tmp_path / "runs" / "leaderboard.csv") as target:
            write_text(target, "rows")
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o077 == 0
    assert target.parent.stat().st_mode & 0o077 == 0
    write_text(target, "more rows")  # and stay so
    assert target.stat().st_mode & 0o077 == 0
