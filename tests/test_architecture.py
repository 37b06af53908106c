"""The walk goes one way: what may import what, and what every source file must be like.

Read from the source with ast, imports inside functions included, so nothing is hidden by being
lazy. A new file fails here until it is given its place in `LAYERS`.
"""

from __future__ import annotations

import ast
import configparser
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

# a file diffcls/NAME.py, or all files of a folder diffcls/NAME/; see ARCHITECTURE.md
LAYERS = (
    # 0 vocabulary: no model, no disk
    "errors registry schedule parameterization draws prompts transforms arrays metrics "
    "calibration pairs search text_table",
    # 1 contracts
    "denoiser method records data atomic options provenance hub_access fits weighting allocation",
    # 2 implementations
    "models scorer screens process samplers sampling guidance bound likelihoods distances "
    "extractors recipes noise_levels objectives team pixel_training training_loop training "
    "supervised",
    # 3 methods, and the two classes that people import
    "methods zero_shot estimator",
    # 4 harness
    "executor leaderboard planning cost evaluation replaying trainer clip_trainer pixel_trainer "
    "noisy_trainer training_run generation pictures shelf fidelity_table",
    # 5 commands, and the package's front door
    "evaluate train generate replay likelihood fidelity model_flags cli __init__",
)
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names.split()}
COMMANDS = [n for n in LAYERS[5].split() if n not in {"cli", "model_flags", "__init__"}]

MODEL_LIBRARIES = {"torch", "torchvision", "diffusers", "transformers", "accelerate", "datasets"}
EXTRAS = {"open_clip", "torchmetrics", "torch_fidelity", "matplotlib"}
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


def layer_of(path: Path) -> int:
    """The layer of a source file, by its own name or that of the folder it lies in."""
    place = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert place in LAYER_OF, f"give {shown(path)} a place in LAYERS"
    return LAYER_OF[place]


def file_of(target: str) -> Path | None:
    """The file of diffcls that ``import target`` reads, None for another package's."""
    parts = target.split(".")
    if parts[0] != "diffcls" or target == "diffcls.__version__":
        return None
    for n in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:n])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path
    raise AssertionError(f"{target} is in no file")


def edges(path: Path) -> Iterator[tuple[Import, Path]]:
    """What `path` imports from diffcls, itself left out."""
    for found in imports_of(path):
        target = file_of(found.target)
        if target not in (None, path):
            yield found, target


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


each_file = pytest.mark.parametrize("path", FILES, ids=shown)


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
        ("diffcls.support.errors.DataError", "load"),
        ("diffcls.support.errors.ModelError", "load"),
        ("diffcls.data.dataset", "load"),
        ("PIL", "types"),
        ("numpy", "load"),
        ("datasets", "load"),
        ("scipy", "load"),
        ("diffcls.search.racing", "call"),
    ]


def test_no_name_stands_in_two_layers() -> None:
    names = " ".join(LAYERS).split()
    assert len(names) == len(set(names))


@each_file
def test_file_has_a_place(path: Path) -> None:
    assert layer_of(path) in range(len(LAYERS))


@each_file
def test_file_imports_only_its_own_layer_and_those_below(path: Path) -> None:
    upward = [
        f"line {found.line}: {found.target}"
        for found, target in edges(path)
        if layer_of(target) > layer_of(path)
    ]
    assert not upward, f"{shown(path)} imports upward"


def test_no_file_imports_itself_by_a_detour() -> None:
    graph = {shown(path): {shown(target) for _, target in edges(path)} for path in FILES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a cycle of imports: {' <- '.join(error.args[1])}")


@each_file
def test_contracts_and_vocabulary_load_no_model_library(path: Path) -> None:
    banned = EXTRAS | (MODEL_LIBRARIES if layer_of(path) <= 1 else set())
    loaded = {i.target.partition(".")[0] for i in imports_of(path) if i.when == "load"}
    assert not loaded & banned, f"{shown(path)}: import these inside the function that needs them"


@each_file
def test_places_named_in_text_exist(path: Path) -> None:
    """What a registry calls ``"module:attribute"`` is there, or its name would fail when used."""
    source = path.read_text(encoding="utf-8")
    for place in re.findall(r'"(diffcls(?:\.\w+)+:\w+)"', source):
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


@each_file
def test_file_is_of_a_size_that_one_reads_in_a_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@each_file
def test_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert path.stem not in {"utils", "util", "helpers", "misc", "common"}


SOURCES = [*FILES, *sorted((ROOT / "benchmarks").rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_nothing_is_left_unfinished(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not re.findall(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b", source)


def test_light_environment_runs_the_tests_of_the_lower_layers() -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    listed = set(re.findall(r"tests/(\w+)\.py", tox["light"]["tests"]))
    lower = [name for name, layer in LAYER_OF.items() if layer <= 1]
    due = {
        path.stem
        for path in (ROOT / "tests").glob("test_*.py")
        if any(path.stem == f"test_{n}" or path.stem.startswith(f"test_{n}_") for n in lower)
    }
    assert due
    assert not due - listed, "tox.ini's light environment leaves these out"


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


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c == "evaluate" or (PACKAGE / f"{c}.py").exists()]
)
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


def test_contracts_and_vocabulary_work_where_no_model_library_is_installed() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in FILES
        if layer_of(path) <= 1
    ]
    assert len(modules) > len(LAYERS[0].split()) // 2
    done = python(
        "-c",
        f"import sys, importlib\nfor name in {sorted(MODEL_LIBRARIES | EXTRAS)}: "
        "sys.modules[name] = None\n"
        f"for name in {modules}: importlib.import_module(name.removesuffix('.__init__'))",
    )
    assert done.returncode == 0, done.stderr
