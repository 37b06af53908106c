"""Provenance: the commit is the imported package's, wherever and however a run is started."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diffcls.support import environment
from diffcls.support.errors import UsageError

CODE = "from diffcls.support.environment import commit; print(commit())"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with a copy of the package's support folder."""
    root = tmp_path / "tree"
    shutil.copytree(environment.PACKAGE / "support", root / "diffcls" / "support")
    (root / "diffcls" / "__init__.py").touch()
    (root / ".gitignore").write_text("__pycache__/\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def commit_of(package: Path, cwd: Path, **variables: str) -> str:
    """The commit that a process reports which imports the package in `package`."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(package), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_commit_does_not_depend_on_where_a_run_is_started(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-qm", "second", "--allow-empty")
    expected = git(tree, "rev-parse", "--short=12", "HEAD")
    for cwd in (tree, other, tmp_path):
        assert commit_of(tree, cwd) == expected
    assert commit_of(tree, other, GIT_DIR=str(other / ".git")) == expected
    (tree / "diffcls" / "__init__.py").write_text("changed = True\n")
    assert commit_of(tree, other) == f"{expected}+"


def test_results_that_a_run_wrote_do_not_mark_the_commit_of_the_next(tree: Path) -> None:
    table = tree / "results" / "reference" / "leaderboard.csv"
    table.parent.mkdir(parents=True)
    table.write_text("fingerprint\n")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "second")
    expected = git(tree, "rev-parse", "--short=12", "HEAD")
    table.write_text("fingerprint\n0123456789abcdef\n")
    assert commit_of(tree, tree) == expected
    (tree / "benchmark.py").touch()
    git(tree, "add", ".")
    assert commit_of(tree, tree) == f"{expected}+"


def test_installed_copy_in_another_repository_has_no_commit_of_that(tree: Path) -> None:
    installed = tree / ".venv" / "site-packages"
    shutil.copytree(tree / "diffcls", installed / "diffcls")
    assert commit_of(installed, tree.parent) == ""


@pytest.mark.parametrize(
    ("text", "commit"),
    [
        ('{"vcs_info": {"commit_id": "0123456789abcdef"}}', "0123456789ab"),
        ('{"dir_info": {}}', ""),
        ("[]", ""),
        (None, ""),
    ],
)
def test_installation_from_a_repository_has_its_commit(
    text: str | None, commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Distribution:
        def locate_file(self, name: str) -> Path:
            return tmp_path / name

        def read_text(self, name: str) -> str | None:
            return text if name == "direct_url.json" else None

    monkeypatch.setattr(environment.metadata, "distribution", lambda name: Distribution())
    assert environment._commit_of_installation((tmp_path / "diffcls").resolve()) == commit
    assert environment._commit_of_installation((tmp_path / "elsewhere").resolve()) == ""


def test_no_thread_is_refused() -> None:
    with pytest.raises(UsageError, match="--threads out of range: 0"):
        environment.check_threads(0)
