"""Subprocesses of the benchmarks, with the import path of the parent.

A benchmark that starts ``python -m diffcls.evaluate`` must measure the diffcls that it imported
itself, be it installed or a checkout, whatever the current folder is.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

from diffcls.support.errors import RecordError


def import_path() -> str:
    """The parent's `sys.path`, as the value of PYTHONPATH for a child."""
    return os.pathsep.join(os.path.abspath(entry) for entry in sys.path)


def run_python(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with these arguments; stdout is captured, stderr is shown.

    The child has the parent's `sys.path`, and the current folder is not added (``-P``).
    """
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**os.environ, "PYTHONPATH": import_path()},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )


def output_of(arguments: Sequence[str]) -> str:
    """The standard output of `run_python`.

    Raises:
        RecordError: if the process fails.
        KeyboardInterrupt: if it was interrupted.
    """
    done = run_python(arguments)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise RecordError(
            f"a run ended with status {done.returncode}",
            given=shlex.join(["python", *arguments]),
            todo="see its message above; rerun the benchmark to resume; finished runs are reused",
        )
    return done.stdout
