"""Standard streams: closed, broken, without room, narrow in encoding or in columns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m diffcls"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        (">&-", 1, "standard output is closed"),
        ("> /dev/full", 1, "output cannot be written (No space left on device)"),
        ("| true; exit ${PIPESTATUS[0]}", None, ""),
        ("<&-", 0, ""),
        ("2>&-", 0, ""),
    ],
)
def test_lost_output_is_told_in_one_line(
    redirection: str, status: int | None, message: str
) -> None:
    ended = shell(f"{COMMAND}.generate --list-samplers {redirection}")
    assert ended.returncode in ((0, 1) if status is None else (status,))
    assert message in ended.stderr
    assert ended.stderr.count("\n") == bool(message)


def test_refusal_with_closed_streams_keeps_its_status_and_goes_to_stderr_alone() -> None:
    for redirection in ("", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        ended = shell(f"{COMMAND}.evaluate --limit 0 {redirection}")
        assert (ended.returncode, ended.stdout) == (2, ""), redirection
        assert ended.stderr.count("\n") == ("2>&-" not in redirection)


def test_no_file_of_a_run_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    probe = (
        "import sys; from diffcls.cli import guarded; "
        f"guarded(lambda: print(open({str(tmp_path / 'a')!r}, 'w').fileno(), file=sys.stderr) or 0)"
    )
    ended = shell(f'{sys.executable} -c "{probe}" <&- >&-')
    assert int(ended.stderr) > 2


def test_output_is_escaped_where_its_encoding_lacks_a_character() -> None:
    probe = "from diffcls.cli import guarded; print(guarded(lambda: print('5 \\u00b1 1') or 0))"
    ended = shell(f'{sys.executable} -c "{probe}"', PYTHONIOENCODING="ascii")
    assert ended.stdout.splitlines() == ["5 \\xb1 1", "0"]
    refused = shell(
        f"{COMMAND}.evaluate --model 日本語", PYTHONIOENCODING="ascii", LC_ALL="C.UTF-8"
    )
    assert refused.returncode == 2 and "\\u65e5" in refused.stderr


def test_unknown_command_is_refused_in_one_line() -> None:
    for name in ("evaluat", "''", "'a\nb'"):
        ended = shell(f"{COMMAND} {name}")
        assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert "did you mean 'evaluate'" in shell(f"{COMMAND} evaluat").stderr
