"""``python -m benchmarks.run``: list all benchmarks; ``python -m benchmarks.run NAME``: run one.

Usage:
  python -m benchmarks.run                             list the benchmarks
  python -m benchmarks.run NAME --help                 show the options of one
  python -m benchmarks.run NAME [options] [-- flags]   run it; flags: those of diffcls.evaluate

Only accuracy benchmarks (sets of evaluate runs) accept flags of evaluate. For example:
  python -m benchmarks.run published_pets --only racing -- --data-root data
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.core.registry import ENTRIES, find
from diffcls.cli import command
from diffcls.support.errors import UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status of the benchmark, 0 for the list."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    if not arguments:
        print(listing())
        return 0
    name, *options = arguments
    if name in ("-h", "--help"):
        print(f"{__doc__}\n{listing()}")
        return 0
    entry = find(name)
    if "--" in options and not entry.accuracy:
        raise UsageError(
            f"{entry.name} accepts no flags of evaluate",
            given=" ".join(options[options.index("--") :]),
            todo=f"remove them; its own options: python -m benchmarks.run {entry.name} --help",
        )
    return entry.main(options)


def listing() -> str:
    """All benchmarks as text: name, hours, device and question."""
    names = [", ".join((entry.name, *entry.aliases)) for entry in ENTRIES]
    width = max(map(len, names))
    return "\n".join(
        f"{name:{width}}  {entry.question}\n{'':{width}}  {entry.hours:,g} h on {entry.device}"
        for name, entry in zip(names, ENTRIES, strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
