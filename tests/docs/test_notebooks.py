"""Notebooks: valid, without outputs, short; they run offline as they are."""

from __future__ import annotations

import ast
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 120
"""Of all notebooks together, with little else on the machine."""

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def sources(path: Path, kind: str) -> list[str]:
    """Text of each cell of a kind."""
    cells = read(path)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["classify", "explain", "mathematics"]


@each
def test_a_notebook_is_valid(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbformat.validate(nbformat.read(path, as_version=4))


@each
def test_a_notebook_has_no_outputs_and_no_traces_of_a_run(path: Path) -> None:
    notebook = read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@each
def test_the_code_of_a_notebook_parses_and_states_truths(path: Path) -> None:
    trees = [ast.parse(source) for source in sources(path, "code")]
    asserted = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Assert)]
    assert len(asserted) >= 2
    assert sum(len(source.splitlines()) for source in sources(path, "code")) <= 130


@each
def test_pages_and_files_that_a_notebook_names_exist(path: Path) -> None:
    text = "\n".join(sources(path, "markdown"))
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        assert (path.parent / target).exists(), target
    for file in re.findall(r"`(diffcls/[\w/]+\.py)`", text):
        assert (ROOT / file).is_file(), file


@pytest.mark.slow
def test_the_notebooks_run_offline_within_two_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    begun = time.perf_counter()
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        options = {"timeout": 5 * SECONDS, "kernel_name": "python3"}
        resources = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(notebook, resources=resources, **options).execute()
        shown = [o for cell in notebook.cells for o in cell.get("outputs", ())]
        assert any("image/png" in output.get("data", {}) for output in shown), path.stem
        assert any(output.get("text", "").strip() for output in shown), path.stem
    # a machine that does other work, too, needs longer: compare with load
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert time.perf_counter() - begun < SECONDS * busy
