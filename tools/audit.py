"""Known vulnerabilities of the installed packages, by pip-audit: ``python -m tools.audit``.

The exit status is 1 if a package has one, else 0: also if the database cannot be reached, or knows
none of the packages. Then nothing is known of them, and the last line says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Run pip-audit on this environment, with its arguments; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    status, lines = summary(done.stdout, done.stderr)
    print("\n".join(lines))
    return status


def summary(output: str, errors: str) -> tuple[int, list[str]]:
    """Exit status and text of a result of pip-audit.

    Args:
        output: its JSON; empty where it failed.
        errors: its standard error.
    """
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip().splitlines() or ["no output"])[-1]
        return 0, [f"nothing was checked: the database cannot be read ({last[:200]})"]
    checked = [one for one in packages if "skip_reason" not in one]
    if not checked:
        return 0, [f"nothing was checked: the database knows none of {len(packages)} packages"]
    found = [(one, hole) for one in checked for hole in one["vulns"]]
    lines = [
        f"{one['name']} {one['version']}: {hole['id']}, fixed in "
        f"{', '.join(hole.get('fix_versions') or ()) or 'no version yet'}"
        for one, hole in found
    ]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    if unknown:
        lines.append(f"not checked, unknown to the database: {', '.join(unknown)}")
    lines.append(f"{len(found)} known vulnerabilities in {len(checked)} packages")
    return int(bool(found)), lines


if __name__ == "__main__":
    sys.exit(main())
