"""Rehearsal of a release: the built wheel, alone in a bare environment, runs the main job.

``python tools/rehearse_release.py DIST`` takes the folder of one sdist and one wheel, as
``python -m build`` leaves it. ``tox -e release`` does both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

MAX_WHEEL_MB = 100.0
"""A wheel's size at most: the default limit of a package index for one file."""


def main(dist: Path) -> int:
    """Check the contents of both archives, then the wheel's main job; returns the exit status."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    check_contents(wheel, sdist)
    with tempfile.TemporaryDirectory() as scratch:
        python = bare_environment(Path(scratch) / "venv", wheel)
        elsewhere = Path(scratch) / "elsewhere"
        elsewhere.mkdir()
        command = [python, "-m", "diffcls.evaluate", "--limit", "100", "--quiet", "--json"]
        done = subprocess.run(command, cwd=elsewhere, check=True, stdout=subprocess.PIPE, text=True)
        (row,) = json.loads(done.stdout)
        if row["status"] != "complete" or not (elsewhere / "results/leaderboard.csv").is_file():
            raise SystemExit(f"the main job left no complete row: {row}")
    print(f"{wheel.name}: {megabytes(wheel):.1f} MB; {sdist.name}: {megabytes(sdist):.1f} MB")
    print(f"main job: accuracy {row['accuracy']:.3f} on {row['n_scored']} images")
    return 0


def check_contents(wheel: Path, sdist: Path) -> None:
    """Refuse a wheel that is too large or lacks package data, and an sdist without its tests."""
    if megabytes(wheel) > MAX_WHEEL_MB:
        raise SystemExit(f"{wheel.name} has {megabytes(wheel):.1f} MB, allowed: {MAX_WHEEL_MB}")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name in ("diffcls/py.typed", "diffcls/assets/published.csv"):
        if name not in names:
            raise SystemExit(f"{wheel.name} lacks {name}")
    tops = {name.split("/")[0] for name in names}
    if {top for top in tops if not top.endswith(".dist-info")} != {"diffcls"}:
        raise SystemExit(f"{wheel.name} holds more than the package: {sorted(tops)}")
    with tarfile.open(sdist) as archive_of_sources:
        if not any("/tests/conftest.py" in name for name in archive_of_sources.getnames()):
            raise SystemExit(f"{sdist.name} lacks the tests")


def bare_environment(folder: Path, wheel: Path) -> str:
    """The interpreter of a new environment that holds the wheel and its dependencies only."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    return str(python)


def megabytes(path: Path) -> float:
    """Size of a file in 10⁶ bytes."""
    return path.stat().st_size / 1e6


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
