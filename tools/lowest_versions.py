"""Installer of the lowest versions: ``pip install``, with every ``>=`` of ours turned into ``==``.

tox calls it in place of pip (the environment ``lowest``), with the requirements that pyproject.toml
states; so the lower bounds there are tested, and stand nowhere else.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence


def lowest(requirement: str) -> str:
    """``name[extra]>=1.2; marker`` -> ``name[extra]==1.2; marker``; all else stays as it is."""
    return re.sub(r"^([\w.-]+(?:\[[^\]]*\])?)\s*>=\s*([\w.]+)", r"\1==\2", requirement)


def main(argv: Sequence[str] | None = None) -> int:
    """Install what the arguments of pip name; returns pip's exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = [sys.executable, "-m", "pip", "install", *map(lowest, arguments)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
