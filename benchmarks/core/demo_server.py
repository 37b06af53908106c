"""The demo in a process of its own, as a visitor's browser meets it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.core.processes import import_path
from diffcls.support.errors import DiffclsError
from diffcls.support.invariants import known

ADDRESS = re.compile(r"http://[\w.:\[\]-]+/?")
SECONDS_TO_END = 20.0


@contextmanager
def served_demo(flags: Sequence[str] = ()) -> Iterator[str]:
    """Start ``python -m diffcls.demo`` on a free port; yields its address once it is served.

    Args:
        flags: its further flags.

    Raises:
        DiffclsError: if it ends before it is served; its own message is on stderr.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "diffcls.demo", "--port", "0", *flags],
        env={**os.environ, "PYTHONPATH": import_path()},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in known(process.stdout):
            address = ADDRESS.search(line)
            if address:
                yield address[0]
                return
        raise DiffclsError(
            "python -m diffcls.demo ended before it was served; its error is printed above",
            given=f"exit status {process.wait()}",
            todo="rerun once the command works",
        )
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
