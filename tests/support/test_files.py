"""Files and locks: one writer at a time, and a wait that is explained."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from diffcls.support import files
from diffcls.support.errors import UsageError
from diffcls.support.files import locked, make_folder, try_lock, write_bytes, write_text

HOLDER = """
import sys
from pathlib import Path
from diffcls.support.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a file until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_long_wait_for_a_lock_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "SECONDS_BEFORE_NOTICE", 0.2)
    path = tmp_path / "table.csv"
    with hold(path) as process:
        assert process.stdin is not None
        threading.Timer(1.0, process.stdin.close).start()
        with locked(path):
            pass
    holder = f"process (pid {process.pid})" if Path("/proc/locks").exists() else "process"
    err = capsys.readouterr().err
    assert err == f"diffcls: waiting for {path}, held by another {holder}\n"


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with hold(path) as process:
        assert try_lock(path) is None
        process.kill()
        process.wait()
    lock = try_lock(path)
    assert lock is not None
    assert try_lock(path) is None  # and it excludes this process, too
    lock.release()


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "one\n")
    write_bytes(path, b"\r\ntwo")
    assert path.read_bytes() == b"\r\ntwo"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot be written"):
        make_folder(tmp_path / "file" / "below")
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
