"""Evidence: where in an image, at which timesteps and by which words a class is favoured.

The folder is also the command ``python -m diffcls.explain``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m diffcls.explain``; returns the exit status."""
    from diffcls.explain.__main__ import main as run

    return run(argv)


def parser() -> ArgumentParser:
    """The parser of ``python -m diffcls.explain``."""
    from diffcls.explain.__main__ import parser as build

    return build()
