"""The house: what a folder may import, and what every source file must be like.

A folder imports only from itself and from folders above it in `FOLDERS`. Imports are read from the
source with ast, those inside functions and names in registries included, so that a lazy import
hides nothing. A new folder fails here until it has its place in `FOLDERS`.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffcls"
FILES = sorted(PACKAGE.rglob("*.py"))

FOLDERS = (
    "support",
    "metrics",
    "diffusion",
    "data",
    "models",
    "generation",
    "training",
    "search",
    "scoring",
    "classifiers",
    "concepts",
    "editing",
    "explain",
    "api",
    "integrations",
    "runs",
    "evaluation",
    "reports",
    "demo",
    "cli",
)
"""From top to bottom; the commands, which are files of the package itself, come last."""
COMMANDS = sorted(
    [path.stem for path in PACKAGE.glob("*.py") if path.stem not in {"__init__", "__main__"}]
    + [path.parent.name for path in PACKAGE.glob("*/__main__.py")]
)
WITHOUT_TORCH = ("support", "metrics", "diffusion", "data", "runs", "reports", "cli")
"""Folders whose files load no model library when they are imported."""
MAX_LINES = 300

MODEL_LIBRARIES = {"torch", "torchvision", "diffusers", "transformers", "accelerate", "datasets"}
EXTRAS = {"open_clip", "torchmetrics", "torch_fidelity", "matplotlib", "gradio"}
# each costs a good part of a second or more, and `--help` needs none of them
SLOW_TO_IMPORT = MODEL_LIBRARIES | EXTRAS | {"pandas", "scipy", "sklearn"}


@dataclass(frozen=True)
class Import:
    """One imported name: `when` is "load" (of the file), "call" (of a function) or "types"."""

    target: str
    when: str
    line: int


class _ImportReader(ast.NodeVisitor):
    def __init__(self, package: list[str]) -> None:
        self.package = package
        self.when = "load"
        self.found: list[Import] = []

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(alias.name, self.when, node.lineno) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        up = self.package[: len(self.package) - node.level + 1] if node.level else []
        base = ".".join([*up, *([node.module] if node.module else [])])
        self.found += [Import(f"{base}.{a.name}", self.when, node.lineno) for a in node.names]

    def visit_If(self, node: ast.If) -> None:
        is_types = ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        self._visit_all(node.body, "types" if is_types else self.when)
        self._visit_all(node.orelse, self.when)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.body, "call")

    visit_AsyncFunctionDef = visit_FunctionDef

    def _visit_all(self, nodes: list[ast.stmt], when: str) -> None:
        before, self.when = self.when, when
        for node in nodes:
            self.visit(node)
        self.when = before


def read_imports(source: str, package: str = "diffcls") -> list[Import]:
    """All imports of a file that lies in `package`."""
    reader = _ImportReader(package.split("."))
    reader.visit(ast.parse(source))
    return reader.found


@cache
def imports_of(path: Path) -> list[Import]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return read_imports(path.read_text(encoding="utf-8"), package)


def place_of(path: Path) -> int:
    """Where a source file's folder stands in `FOLDERS`; after all of them for the commands."""
    parts = path.relative_to(PACKAGE).parts
    if len(parts) == 1 or path.name == "__main__.py":  # a folder may be a command, too
        return len(FOLDERS)
    assert parts[0] in FOLDERS, f"give the folder of {shown(path)} a place in FOLDERS"
    return FOLDERS.index(parts[0])


def file_of(target: str) -> Path | None:
    """The file of diffcls that ``import target`` reads, None for another package's."""
    parts = target.split(".")
    if parts[0] != "diffcls":
        return None
    for n in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:n])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path
    raise AssertionError(f"{target} is in no file")


def named_places(source: str) -> Iterator[tuple[str, int]]:
    """The modules that registries name, as ``"diffcls.module:attribute"``, each with its line."""
    for number, line in enumerate(source.splitlines(), start=1):
        for module in re.findall(r"\"(diffcls(?:\.\w+)+):\w+\"", line):
            yield module, number


def edges(path: Path, found: list[Import]) -> Iterator[tuple[Import, Path]]:
    """Those imports of `path` that are of diffcls, itself left out, each with the file it reads."""
    for one in found:
        target = file_of(one.target)
        if target not in (None, path):
            yield one, target


def upward_imports(path: Path) -> list[str]:
    """The imports of `path`, registries' names included, from folders below its own."""
    named = named_places(path.read_text(encoding="utf-8"))
    found = [*imports_of(path), *(Import(module, "call", line) for module, line in named)]
    return [
        f"line {one.line}: {one.target}"
        for one, target in edges(path, found)
        if place_of(target) > place_of(path) and target.parent != path.parent
    ]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def folder_of(path: Path) -> str:
    """The folder of the house that a source file lies in; empty for the package's own files."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def test_reader_finds_each_kind_of_import() -> None:
    source = """
import torch.nn as nn
from typing import TYPE_CHECKING
from ..errors import DataError, ModelError
from . import dataset
if TYPE_CHECKING:
    import PIL
else:
    import numpy
try:
    import datasets
except ImportError:
    pass
class A:
    import scipy
    async def method(self):
        def inner():
            from diffcls.search import racing
"""
    assert [(i.target, i.when) for i in read_imports(source, "diffcls.data")] == [
        ("torch.nn", "load"),
        ("typing.TYPE_CHECKING", "load"),
        ("diffcls.errors.DataError", "load"),
        ("diffcls.errors.ModelError", "load"),
        ("diffcls.data.dataset", "load"),
        ("PIL", "types"),
        ("numpy", "load"),
        ("datasets", "load"),
        ("scipy", "load"),
        ("diffcls.search.racing", "call"),
    ]


def test_the_package_holds_folders_of_the_house_and_commands_only() -> None:
    folders = {path.relative_to(PACKAGE).parts[0] for path in FILES if path.parent != PACKAGE}
    assert folders <= set(FOLDERS)
    assert all((PACKAGE / folder / "__init__.py").is_file() for folder in folders)
    for command in COMMANDS:
        path = PACKAGE / command
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert "main" in defined_in(path), f"{command} is no command"


def test_a_folder_imports_only_from_itself_and_from_folders_above() -> None:
    guilty = [shown(path) for path in FILES if upward_imports(path)]
    assert not guilty, "these import from a folder below their own"


@pytest.mark.parametrize(
    "line",
    [
        "from diffcls.search.racing import Racing",
        "from diffcls.search import racing",
        "import diffcls.search.racing",
        "from ..search import racing",
        "def late():\n    from diffcls.search import racing",
        'KINDS = {"racing": "diffcls.search.racing:Racing"}',
    ],
)
def test_an_import_from_a_folder_below_is_found(
    line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The test of the test above: a copy of the house in which ``models`` imports ``search``."""
    for name in ("models", "search"):
        (tmp_path / "diffcls" / name).mkdir(parents=True)
    (tmp_path / "diffcls" / "search" / "racing.py").write_text("class Racing: ...\n")
    (tmp_path / "diffcls" / "search" / "__init__.py").touch()
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "diffcls")
    guilty = tmp_path / "diffcls" / "models" / "guilty.py"
    guilty.write_text(line + "\n")
    assert upward_imports(guilty)
    innocent = tmp_path / "diffcls" / "search" / "innocent.py"
    innocent.write_text(line + "\n")
    assert not upward_imports(innocent)


def test_no_file_imports_itself_by_a_detour() -> None:
    graph = {
        shown(path): {shown(target) for _, target in edges(path, imports_of(path))}
        for path in FILES
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a cycle of imports: {' <- '.join(error.args[1])}")


def test_libraries_are_loaded_where_they_are_used() -> None:
    early = {}
    for path in FILES:
        banned = EXTRAS | (MODEL_LIBRARIES if folder_of(path) in WITHOUT_TORCH else set())
        loaded = {i.target.partition(".")[0] for i in imports_of(path) if i.when == "load"}
        early[shown(path)] = loaded & banned
    assert not any(early.values()), {
        path: f"import {names} inside the function that needs them"
        for path, names in early.items()
        if names
    }


def test_places_named_in_text_exist() -> None:
    """What a registry calls ``"module:attribute"`` is there, or its name would fail when used."""
    places = [
        (path, place)
        for path in FILES
        for place in re.findall(r'"(diffcls(?:\.\w+)+:\w+)"', path.read_text(encoding="utf-8"))
    ]
    assert len(places) > 50
    for path, place in places:
        module, attribute = place.split(":")
        target = file_of(module)
        assert target is not None
        assert shown(target) in {
            f"{module.replace('.', '/')}.py",
            f"{module.replace('.', '/')}/__init__.py",
        }, f"{place} in {shown(path)} names no module"
        assert attribute in defined_in(target), f"{place} in {shown(path)} names nothing"


def defined_in(path: Path) -> set[str]:
    """The names that a file defines or imports at its top level."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign():
                names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
    return names


def test_file_is_of_a_size_that_one_reads_in_a_sitting() -> None:
    lines = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not [(path, count) for path, count in lines.items() if count > MAX_LINES]


def test_file_says_what_it_is_for() -> None:
    silent = [
        shown(path)
        for path in FILES
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        or path.stem in {"utils", "util", "helpers", "misc", "common"}
    ]
    assert not silent


SOURCES = [*FILES, *sorted((ROOT / "benchmarks").rglob("*.py"))]


def test_nothing_is_left_unfinished() -> None:
    unfinished = re.compile(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b")
    found = [shown(path) for path in SOURCES if unfinished.search(path.read_text(encoding="utf-8"))]
    assert not found


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def imported_by(*arguments: str) -> tuple[set[str], str]:
    """The top-level packages that a fresh interpreter imports, and what it prints."""
    done = python("-X", "importtime", *arguments)
    # import time:   self [us] | cumulative | package.module
    packages = re.findall(r"^import time: .*\|\s*(\w+)[\w.]*$", done.stderr, re.MULTILINE)
    assert done.returncode == 0, re.sub(r"(?m)^import time:.*\n", "", done.stderr)
    return set(packages), done.stdout


def test_the_probe_sees_what_is_imported() -> None:
    packages, _ = imported_by("-c", "import numpy.linalg, diffcls.support.errors")
    assert {"numpy", "diffcls"} <= packages


def test_importing_the_package_is_cheap() -> None:
    packages, _ = imported_by("-c", "import diffcls")
    assert not packages & SLOW_TO_IMPORT


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_cheap(command: str) -> None:
    packages, printed = imported_by("-m", f"diffcls.{command}", "--help")
    assert not packages & SLOW_TO_IMPORT
    assert printed.startswith("usage:")


def test_help_of_the_console_script_is_cheap() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, function = project["scripts"]["diffcls"].split(":")
    packages, printed = imported_by(
        "-c",
        f"import sys; sys.argv = ['diffcls', '--help']; from {module} import {function}; "
        f"sys.exit({function}())",
    )
    assert not packages & SLOW_TO_IMPORT
    assert printed.startswith("usage:")


def test_folders_without_torch_work_where_no_model_library_is_installed() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in FILES
        if folder_of(path) in WITHOUT_TORCH
    ]
    assert len(modules) >= len(WITHOUT_TORCH)
    done = python(
        "-c",
        f"import sys, importlib\nfor name in {sorted(MODEL_LIBRARIES | EXTRAS)}: "
        "sys.modules[name] = None\n"
        f"for name in {modules}: importlib.import_module(name.removesuffix('.__init__'))",
    )
    assert done.returncode == 0, done.stderr
