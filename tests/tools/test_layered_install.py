"""An environment on top of another one sees its packages, and keeps its own before them."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tools.layered_install import LINK, link, packages_of

PRINT = "import shared, only; print(shared.OWNER, only.OWNER)"


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The interpreters of two environments without pip."""
    found = {}
    for name in ("base", "top"):
        folder = tmp_path_factory.mktemp("environments") / name
        venv.create(folder, symlinks=True)
        found[name] = next(folder.glob("*/python3"))
        packages = Path(packages_of(str(found[name])))
        (packages / "shared.py").write_text(f"OWNER = {name!r}\n")
        if name == "base":
            (packages / "only.py").write_text(f"OWNER = {name!r}\n")
    return found


def test_the_top_sees_what_the_base_has_and_prefers_its_own(environments) -> None:
    top = str(environments["top"])
    packages = Path(packages_of(top))
    alone = subprocess.run([top, "-c", PRINT], capture_output=True, text=True)
    assert "ModuleNotFoundError: No module named 'only'" in alone.stderr
    link(str(environments["base"]), packages)
    assert subprocess.check_output([top, "-c", PRINT], text=True).split() == ["top", "base"]
    link(None, packages)
    assert not (packages / LINK).exists()


def test_the_base_is_an_interpreter_of_the_same_version(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="DIFFCLS_BASE cannot be run"):
        packages_of(str(tmp_path / "none"))
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 2 7\necho /nowhere\n")
    other.chmod(0o755)
    with pytest.raises(SystemExit, match=r"another Python version.*given: 2 7; allowed: 3 "):
        packages_of(str(other))


def test_this_interpreter_is_its_own_base() -> None:
    assert Path(packages_of(sys.executable)).is_dir()
