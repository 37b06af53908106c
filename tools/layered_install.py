"""Installer on top of an environment that exists: only what that one lacks is installed.

tox calls it in place of pip (the environment ``browser``). Where the variable DIFFCLS_BASE names
the interpreter of another environment, its packages become visible in this one, after its own; so
a second copy of torch, which takes minutes and gigabytes, is not needed. What this environment
needs in another version it gets for itself, and the other stays as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

BASE_VARIABLE = "DIFFCLS_BASE"
LINK = "base_environment.pth"
"""File beside this environment's packages that adds those of the base to the import path."""
DESCRIBE = (
    "import sys, sysconfig; print(*sys.version_info[:2]); print(sysconfig.get_path('purelib'))"
)


def packages_of(python: str) -> str:
    """Folder of the packages of the environment whose interpreter is `python`.

    Raises:
        SystemExit: if it cannot be run, or is of another Python version than this one.
    """
    try:
        run = subprocess.run([python, "-c", DESCRIBE], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{BASE_VARIABLE} cannot be run: {python!r} ({error})") from None
    version, folder = run.stdout.splitlines()
    ours = " ".join(map(str, sys.version_info[:2]))
    if version != ours:
        raise SystemExit(
            f"{BASE_VARIABLE} is of another Python version: {python!r}; given: {version}; "
            f"allowed: {ours}"
        )
    return folder


def link(base: str | None, packages: Path) -> None:
    """Make the packages of `base` visible beside those in `packages`; None: of no other."""
    file = packages / LINK
    if base:
        file.write_text(packages_of(base) + "\n", encoding="utf-8")
    else:
        file.unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Install what the arguments of pip name; returns pip's exit status."""
    link(os.environ.get(BASE_VARIABLE), Path(sysconfig.get_path("purelib")))
    arguments = sys.argv[1:] if argv is None else argv
    command = [sys.executable, "-m", "pip", "install", *arguments]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
