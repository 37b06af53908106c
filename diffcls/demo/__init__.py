"""Live demo: a web page on which visitors classify their own images and watch the race.

The folder is also the command ``python -m diffcls.demo``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m diffcls.demo``; returns the exit status."""
    from diffcls.demo.__main__ import main as run

    return run(argv)


def parser() -> ArgumentParser:
    """The parser of ``python -m diffcls.demo``."""
    from diffcls.demo.__main__ import parser as build

    return build()
