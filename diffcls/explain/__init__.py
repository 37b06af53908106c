"""Evidence: where in an image, at which timesteps and by which words a class is favoured.

The folder is also the command ``python -m diffcls.explain``.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m diffcls.explain``; returns the exit status."""
    from diffcls.explain.__main__ import main as run

    return run(argv)
