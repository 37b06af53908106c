"""Files and locks: one writer at a time, and a wait that is explained."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcls.support import files
from diffcls.support.errors import UsageError
from diffcls.support.files import (
    locked,
    make_folder,
    safe_name,
    try_lock,
    write_bytes,
    write_text,
)

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


def test_stopped_holder_of_a_lock_is_named_after_two_seconds(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert files.SECONDS_BEFORE_NOTICE <= 2.0
    path = tmp_path / "table.csv"
    with hold(path) as process:
        process.send_signal(signal.SIGSTOP)
        waiter = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert waiter.stderr is not None and waiter.stdout is not None
        line = waiter.stderr.readline()
        assert line.startswith(f"diffcls: waiting for {path}, held by another process")
        if Path("/proc/locks").exists():
            assert line.endswith(f"(pid {process.pid}, stopped)\n")
        assert waiter.poll() is None  # it still waits
        process.kill()
        assert waiter.wait(20) == 0
        assert waiter.stdout.read() == "held\n"


@pytest.mark.parametrize("text", ["digits", "own photos", "a.b", "Größe", ".hidden", "x" * 200])
def test_ordinary_text_is_its_own_file_name(text: str) -> None:
    assert safe_name(text) == text


@given(
    st.text() | st.sampled_from(["", ".", "..", "...", "a/..", "../..", "C:", "..\\..", "x" * 999])
)
def test_name_made_of_any_text_lies_in_its_folder(text: str) -> None:
    name = safe_name(text)
    assert name.strip(". ") and not set(name) & set("/\\:\0") and name.isprintable()
    assert len(name.encode("utf-8")) <= 200
    assert (Path("/out") / name).resolve().parent == Path("/out")
    assert safe_name(name) == name


def test_texts_that_differ_have_names_that_differ() -> None:
    odd = ["", ".", "..", "a/b", "a\\b", "a:b", "x" * 300, "x" * 301, "a\n", "a\r", "_", "a_b"]
    assert len(set(map(safe_name, odd))) == len(odd)


def test_text_that_utf_8_does_not_have_is_written_in_escape_sequences(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "\udcff")
    assert (tmp_path / "a").read_bytes() == b"\\udcff"


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
