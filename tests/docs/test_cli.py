"""Command reference: ``docs/cli.md`` is up to date, and all command lines in documents parse."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from diffcls.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


def generator() -> ModuleType:
    """``tools/document_cli.py``, which is no part of an installed package."""
    path = ROOT / "tools" / "document_cli.py"
    spec = importlib.util.spec_from_file_location("document_cli", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_up_to_date() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == generator().document(), "run `python -m tools.document_cli`"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_every_visible_flag_of_a_command(name: str) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    printed = importlib.import_module(f"diffcls.{name}").parser().format_help()
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", printed.partition("examples:")[0]))
    documented = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section))
    assert flags - documented <= {"--help"}


def command_lines(text: str) -> list[list[str]]:
    """The arguments after ``python -m`` or ``diffcls`` of each command in a page's bash blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [part for line in lines for part in re.split(r"&&|\|\|| > ", line)]
    words = [shlex.split(line, comments=True) for line in commands]
    modules = [w[w.index("-m") + 1 :] for w in words if "-m" in w and "python" in w[0]]
    scripts = [[f"diffcls.{w[1]}", *w[2:]] for w in words if w[:1] == ["diffcls"] and len(w) > 1]
    return modules + scripts


def test_command_lines_are_found() -> None:
    text = "```bash\npip install -e . && python -m diffcls.train --model clip  # yes\nls\n```\n"
    assert command_lines(text) == [["diffcls.train", "--model", "clip"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_command_lines_of_a_page_are_accepted(page: Path) -> None:
    for module, *arguments in command_lines(page.read_text(encoding="utf-8")):
        package, _, name = module.partition(".")
        if package in ("benchmarks", "tools"):
            stem = ROOT.joinpath(*module.split("."))
            assert stem.with_suffix(".py").is_file() or (stem / "__main__.py").is_file(), module
        elif package == "diffcls":
            assert name in COMMANDS
            if "…" not in "".join(arguments):
                importlib.import_module(module).parser().parse_args(arguments)
