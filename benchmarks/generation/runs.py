"""Runs of the package's commands by the benchmarks of generation; finished ones are reused."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.core.processes import output_of
from diffcls.data.option_use import root_for
from diffcls.models import loading
from diffcls.support.files import write_text
from diffcls.support.hashing import content_hash


@dataclass(frozen=True)
class Run:
    """One run of a command.

    Args:
        command: name of the command.
        model: name or folder of the model.
        arguments: its arguments, without those shared by all runs.
    """

    command: str
    model: str
    arguments: tuple[str, ...]


def run_command(run: Run, flags: argparse.Namespace) -> Any:
    """The JSON output of a run, which is made in a process of one thread."""
    output = Path(flags.output_dir)
    # rows of snapshots do not belong to the leaderboard
    folder = output / "tables" if run.command == "evaluate" else output
    command = ["-m", f"diffcls.{run.command}", "--model", run.model]
    trained_on = loading.trained_on(run.model)
    data_root = root_for(trained_on[0], flags.data_root) if trained_on else flags.data_root
    root = ["--data-root", data_root] if data_root else []
    shared = [*root, "--output-dir", str(folder), "--threads", "1", "--json"]
    return cached(
        output,
        content_hash(run.command, identity(run.model), *run.arguments),
        f"{run.command} {run.model}",
        lambda: output_of([*command, *run.arguments, *shared]),
    )


def cached(output: Path, key: str, title: str, make: Callable[[], str]) -> Any:
    """The stored JSON of a key, which is made if it is missing."""
    path = output / "tables" / "generative" / f"{key}.json"
    if not path.exists():
        print(f"started: {title}", file=sys.stderr)
        text = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return json.loads(path.read_text(encoding="utf-8"))


def identity(model: str) -> str:
    """The card of an own training, so that another training is measured again; else the name."""
    from diffcls.models.loading import CARD

    card = Path(model) / CARD
    return card.read_text(encoding="utf-8") if card.is_file() else model
