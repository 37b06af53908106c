"""Shared parts of the benchmarks: registry, processes and tables."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import pytest

import diffcls
from benchmarks import run
from benchmarks.core import processes, registry, tables
from benchmarks.core.tables import read_rows, write_rows
from diffcls.support import environment
from diffcls.support.errors import RecordError, UsageError

ROOT = Path(__file__).parents[2]
NAMES = [entry.name for entry in registry.ENTRIES]
ALIASES = {
    "speed": "searches",
    "growth": "classes",
    "overhead": "throughput",
    "kernels": "cpu_inference",
    "heads": "class_heads",
    "generative": "fidelity",
    "scenes_picture": "scenes",
}


def test_readme_holds_the_registry() -> None:
    assert registry.table() in (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")


def test_every_module_with_a_main_is_registered() -> None:
    modules = {entry.module for entry in registry.ENTRIES}
    for path in (ROOT / "benchmarks").rglob("*.py"):
        if "\nmain = entry_point(" in path.read_text(encoding="utf-8"):
            assert ".".join(path.relative_to(ROOT).with_suffix("").parts) in modules


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_can_be_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    entry = registry.find(name)
    module = importlib.import_module(entry.module)
    assert name in module.BENCHMARKS if entry.accuracy else callable(module.main)
    with pytest.raises(SystemExit) as stopped:
        run.main([name, "--help"])
    assert stopped.value.code == 0
    assert f"benchmarks.run {name}" in capsys.readouterr().out


def test_old_names_are_aliases() -> None:
    assert {alias: registry.find(alias).name for alias in ALIASES} == ALIASES
    assert registry.find("cpu-inference").name == "cpu_inference"
    with pytest.raises(UsageError, match=r"unknown benchmark: 'spede'.*speed"):
        registry.find("spede")


def test_without_arguments_all_benchmarks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([]) == 0
    listing = capsys.readouterr().out
    assert all(entry.question in listing for entry in registry.ENTRIES)
    assert run.main(["nothing"]) == 2


def test_evaluate_flags_of_a_benchmark_without_runs_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run.main(["gpu", "--tiny", "--", "--limit", "5"]) == 2
    assert "gpu accepts no flags of evaluate: '-- --limit 5'" in capsys.readouterr().err


def test_subprocesses_import_what_the_parent_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a decoy in the current folder, which `python -m` would prefer
    (tmp_path / "diffcls").mkdir()
    (tmp_path / "diffcls/__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    code = "import diffcls, benchmarks; print(diffcls.__file__); print(benchmarks.__file__)"
    expected = [diffcls.__file__, str(ROOT / "benchmarks/__init__.py")]
    imported = processes.output_of(["-c", code]).splitlines()
    assert [os.path.realpath(path) for path in imported] == [os.path.realpath(p) for p in expected]
    # an installed package comes first, though the checkout is on the path
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert processes.output_of(["-c", code]).startswith(str(tmp_path / "diffcls"))


def test_a_failing_subprocess_is_an_error() -> None:
    assert processes.output_of(["-c", "print(3)"]) == "3\n"
    with pytest.raises(RecordError, match="a run ended with status 2"):
        processes.output_of(["-c", "raise SystemExit(2)"])
    with pytest.raises(KeyboardInterrupt):
        processes.output_of(["-c", "raise SystemExit(130)"])


def test_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": 0.1 + 0.2, "c": "x, y"}, {"a": None, "b": 2000.0, "c": "z"}]
    path = tmp_path / "new" / "table.csv"
    write_rows(path, rows, ("a", "b", "c"))
    assert read_rows(path) == rows
    write_rows(path, rows, ("c", "b"), ".6g")
    assert path.read_text(encoding="utf-8") == 'c,b\n"x, y",0.3\nz,2000\n'


def test_leaderboard_lists_measured_rows_before_published_ones() -> None:
    rows = read_rows(ROOT / "results/reference/leaderboard.csv")
    measured = [row["source"] == "measured" for row in rows]
    assert any(measured) and measured == sorted(measured, reverse=True)


def test_rows_of_an_earlier_environment_are_not_shown_as_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(versions: str, keeps_rows: bool) -> str:
        monkeypatch.setattr("diffcls.support.environment.versions", lambda: versions)
        tables.record_environment(tmp_path, "scale", keeps_rows=keeps_rows)
        return str(tables.environment_of(tmp_path, "scale")["environment"]).replace(device, "")

    device = environment.describe_device("cpu") + ", "
    assert recorded("torch 1", keeps_rows=True) == "torch 1"
    assert recorded("torch 1", keeps_rows=True) == "torch 1"
    assert recorded("torch 2", keeps_rows=True) == "torch 2; rows measured earlier: torch 1"
    three = "torch 3; rows measured earlier: torch 2; rows measured earlier: torch 1"
    assert recorded("torch 3", keeps_rows=True) == three
    assert recorded("torch 3", keeps_rows=False) == "torch 3"


def test_environments_are_those_of_benchmarks() -> None:
    content = json.loads((ROOT / "results/reference/environments.json").read_text(encoding="utf-8"))
    assert set(content) <= set(NAMES)
