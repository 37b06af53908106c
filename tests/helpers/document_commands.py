"""Shell commands of the documents: their places, and their values checked as the commands do."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffcls.cli.flags import keywords
from diffcls.data import catalog
from diffcls.support.options import read

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|sh|shell|console|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SYNOPSIS = re.compile(r"…|\bNAME\b")
"""Marks a line that says how a command is called, and is no command itself."""

OPTIONS = {
    "checkpoints": "diffcls.evaluation.checkpoint_options:CheckpointOptions",
    "counterfactual": "diffcls.editing.counterfactual_options:CounterfactualOptions",
    "demo": "diffcls.demo.options:DemoOptions",
    "edit": "diffcls.editing.options:EditOptions",
    "explain": "diffcls.explain.options:ExplainOptions",
    "fidelity": "diffcls.generation.fidelity_options:FidelityOptions",
    "generate": "diffcls.generation.images:GenerationOptions",
    "learn_concept": "diffcls.concepts.options:ConceptOptions",
    "likelihood": "diffcls.generation.dataset_likelihood:LikelihoodOptions",
    "replay": "diffcls.evaluation.replay_options:ReplayOptions",
    "report": "diffcls.reports.page.options:ReportOptions",
    "train": "diffcls.training.options:TrainingOptions",
}
"""Command -> its options, whose limits its values must keep; evaluate has combinations of them."""
BESIDE_OPTIONS = ("report", "config")
"""Flags of evaluate that are no options of an evaluation."""


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Args:
        page: path from the root.
        line: line of its first command.
        language: what stands after the backquotes.
        source: its text.
    """

    page: str
    line: int
    language: str
    source: str


@dataclass(frozen=True)
class Command:
    """A command of a block, without its comment.

    Args:
        page, line: place of the block.
        text: as pasted into a shell.
    """

    page: str
    line: int
    text: str


def pages() -> list[Path]:
    """All pages for readers; the changelog has no commands to follow."""
    folders = (ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"), ROOT.glob("benchmarks/*.md"))
    return sorted(page for folder in folders for page in folder if page.name != "CHANGELOG.md")


def blocks(page: Path) -> list[Block]:
    """Blocks of a page that are for a shell or for Python, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(name, text.count("\n", 0, match.start(2)) + 1, match.group(1), match.group(2))
        for match in BLOCK.finditer(text)
    ]


def commands(block: Block) -> list[Command]:
    """Commands of a shell block, one per line and per ``&&``."""
    lines = block.source.replace("\\\n", " ").splitlines()
    parts = (part.strip() for line in lines for part in uncommented(line).split("&&"))
    return [Command(block.page, block.line, " ".join(part.split())) for part in parts if part]


def uncommented(line: str) -> str:
    """A line without a comment that a # begins; one inside quotation marks is kept."""
    match = re.match(r"""(?:[^'"#]|"[^"]*"|'[^']*'|(?<=\S)#)*""", line)
    return match.group() if match else line


def all_commands() -> list[Command]:
    """The commands of all pages."""
    return [
        command
        for page in pages()
        for block in blocks(page)
        if block.language != "python"
        for command in commands(block)
    ]


def module_of(text: str) -> tuple[str, list[str]]:
    """Module and arguments of ``python -m MODULE …`` or ``diffcls NAME …``; else ("", []).

    ``torchrun`` and ``srun`` may stand in front, and the output may go to a file.
    """
    words = shlex.split(text)
    words = words[: words.index(">")] if ">" in words else words
    if words[0] == "diffcls" and len(words) > 1 and not words[1].startswith("-"):
        return f"diffcls.{words[1]}", words[2:]
    if words[0] in ("python", "torchrun", "srun") and "-m" in words:
        module, *arguments = words[words.index("-m") + 1 :]
        return module, arguments
    return "", []


def check_values(command: str, arguments: Sequence[str]) -> None:
    """Parse arguments by the command's parser, and check all values by its options.

    Raises:
        diffcls.UsageError: for a flag or a value that the command would refuse.
    """
    flags = importlib.import_module(f"diffcls.{command}").parser().parse_args(list(arguments))
    if command == "evaluate":
        from diffcls.evaluation.combinations import read_combinations

        read_combinations({k: v for k, v in vars(flags).items() if k not in BESIDE_OPTIONS})
    if command not in OPTIONS:
        return
    module, _, name = OPTIONS[command].partition(":")
    options = getattr(importlib.import_module(module), name)
    given = {name: value for name, value in keywords(flags, options).items() if value is not None}
    read(options, given)
    if "dataset" in given:
        catalog.find(given["dataset"])
