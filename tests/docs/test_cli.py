"""Command reference: ``docs/cli.md`` is up to date. `test_commands` parses all command lines."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from diffcls.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]


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
