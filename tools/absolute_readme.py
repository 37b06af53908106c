"""README with absolute links, for a package index, which resolves no relative ones.

``python -m tools.absolute_readme https://HOST/OWNER/NAME vX.Y.Z`` rewrites ``README.md`` for the
build of a release: pictures are loaded from the files of that tag, links lead to its pages. The
change is not committed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from diffcls.cli import Parser, command
from diffcls.support.files import write_text

README = "README.md"
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.M | re.S)
TARGET = re.compile(r"(?P<before>\]\()(?![a-z]+:|#)(?P<path>[^)\s]+)(?=\))")
PICTURES = (".png", ".svg", ".jpg", ".gif")


def absolute(text: str, repository: str, tag: str) -> str:
    """The text with the relative targets of its links and pictures made absolute.

    Args:
        text: Markdown; its code is left as it is.
        repository: address of the repository, in GitHub's or GitLab's form.
        tag: of the release.
    """

    def replaced(match: re.Match[str]) -> str:
        path = match["path"]
        kind = "raw" if path.endswith(PICTURES) else "blob"
        return f"{match['before']}{repository.rstrip('/')}/{kind}/{tag}/{path}"

    parts = CODE.split(text)  # code stands at odd places
    # a link's text may be code, so targets are sought between pieces of code
    return "".join(part if i % 2 else TARGET.sub(replaced, part) for i, part in enumerate(parts))


def _main(arguments: list[str]) -> int:
    p = Parser(prog="tools.absolute_readme", description=__doc__)
    p.add_argument("repository", help="address of the repository")
    p.add_argument("tag", help="tag of the release")
    flags = p.parse_args(arguments)
    if not flags.repository.startswith("https://"):
        p.error(f"no address: {flags.repository}; it begins with https://")
    path = Path(README)
    text = absolute(path.read_text(encoding="utf-8"), flags.repository, flags.tag)
    write_text(path, text)
    print(f"{path}: links to {flags.repository} at {flags.tag}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite the README; returns the exit status."""
    return command(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
